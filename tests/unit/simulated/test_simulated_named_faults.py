"""The faults that have a name, as a client on a bare socket meets them."""

import asyncio
import gzip
import socket
import ssl
from itertools import product
from typing import Any

import httpx2
import orjson
import pytest

from app.simulated.behaviour import behaviour_from_json
from app.simulated.control import Control
from app.simulated.faults import FAULTS
from app.simulated.provider_errors import PROVIDER_STATUSES, provider_error
from app.simulated.refusal import RequestRefused

USER: Any = [{"role": "user", "content": "Hello"}]


def raw(upstream: Control, most: int = 1 << 30, stream: bool = False, **simulate: Any) -> bytes:
    """What comes over the wire, to its end or to `most` bytes; a reset is an end."""
    request = {"model": "m", "messages": USER, "stream": stream, "x_simulate": simulate}
    content = orjson.dumps(request)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        f"accept-encoding: identity\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    got = b""
    with socket.create_connection((upstream.host, upstream.port), timeout=0.3) as sock:
        sock.sendall(head.encode() + content)
        try:
            while len(got) < most and (piece := sock.recv(65536)):
                got += piece
        except ConnectionResetError:
            got += b"<reset>"
        except TimeoutError:
            got += b"<silence>"
    return got


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_a_behaviour(name: str) -> None:
    assert behaviour_from_json({"fault": name}, "b") == behaviour_from_json(FAULTS[name], "b")


def test_a_fault_can_be_changed() -> None:
    behaviour = behaviour_from_json({"fault": "reset_after_events", "cut_after_chunks": 9}, "b")
    assert behaviour.cut_after_chunks == 9


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(RequestRefused, match="Did you mean 'gzip_bomb'"):
        behaviour_from_json({"fault": "gzip_bom"}, "b")


@pytest.mark.parametrize("size", [0, 1, 20, 60])
def test_a_reset_within_the_head(upstream: Control, size: int) -> None:
    assert (
        raw(upstream, cut_head_after_bytes=size).removesuffix(b"<reset>")
        == (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-simulated: true\r\n"[:size])
    )


def test_closing_is_not_resetting(upstream: Control) -> None:
    reset = raw(upstream, fault="reset_after_events", stream=True)
    closed = raw(upstream, fault="closed_after_events", stream=True)
    assert reset.endswith(b"<reset>")
    assert closed.count(b"data: ") == reset.count(b"data: ") == 3
    assert not closed.endswith(b"<reset>")
    assert not closed.endswith(b"0\r\n\r\n")


def test_silence_in_the_middle_of_an_event(upstream: Control) -> None:
    _, _, body = raw(upstream, fault="stall_in_first_event", stream=True).partition(b"\r\n\r\n")
    assert body.startswith(b"28\r\ndata: ")
    assert body.endswith(b"<silence>")


def test_an_ordered_end_in_the_middle_of_a_stream(upstream: Control) -> None:
    got = raw(upstream, fault="truncated_stream", stream=True)
    assert got.count(b"data: ") == 3
    assert got.endswith(b"0\r\n\r\n")


def test_a_drip_comes_byte_by_byte(upstream: Control) -> None:
    text = raw(upstream, stream=True, drip_bytes=1, drip_seconds=0, chunks=1, text="x")
    assert text.count(b"\r\n1\r\n") > 300


@pytest.mark.parametrize(
    ("fault", "stream"),
    [
        *product(["endless_head", "endless_body", "gzip_bomb"], [False, True]),
        ("endless_stream", True),
    ],
)
def test_no_end_comes(upstream: Control, fault: str, stream: bool) -> None:
    enough = 1_000_000
    assert len(raw(upstream, enough, fault=fault, stream=stream)) >= enough
    assert upstream.wait_for(lambda one: one["disconnected"])


def test_an_event_without_an_end(upstream: Control) -> None:
    got = raw(upstream, 1_000_000, fault="endless_event", stream=True)
    assert got.count(b"\n\n") == 2


def test_huge_headers(upstream: Control) -> None:
    head, _, _ = raw(upstream, fault="huge_headers").partition(b"\r\n\r\n")
    assert len(head) > 1_000_000


@pytest.mark.parametrize("stream", [False, True])
def test_compression_that_nobody_asked_for(upstream: Control, stream: bool) -> None:
    answer = httpx2.post(
        f"{upstream.base_url}/chat/completions",
        json={"model": "m", "messages": USER, "stream": stream, "x_simulate": {"gzip": True}},
        headers={"accept-encoding": "identity"},
    )
    assert answer.headers["content-encoding"] == "gzip"
    assert "chat.completion" in answer.text


def test_a_bomb_is_a_sound_answer_once_inflated(upstream: Control) -> None:
    got = raw(upstream, gzip_bomb_bytes=32 * 1024 * 1024)
    _, _, body = got.partition(b"\r\n\r\n")
    packed = unchunked(body)
    assert len(packed) < 200_000
    answer = orjson.loads(gzip.decompress(packed))
    assert len(answer["choices"][0]["message"]["content"]) == 32 * 1024 * 1024


def unchunked(body: bytes) -> bytes:
    parts = []
    while size := int((line := body.partition(b"\r\n")[0]), 16):
        parts.append(body[len(line) + 2 :][:size])
        body = body[len(line) + 2 + size + 2 :]
    return b"".join(parts)


def test_sizes_that_are_no_numbers(upstream: Control) -> None:
    assert b"\r\n\r\nnonsense\r\n" in raw(upstream, fault="bad_framing")


@pytest.mark.parametrize(
    ("provider", "status"),
    [(name, status) for name, statuses in PROVIDER_STATUSES.items() for status in statuses],
)
def test_errors_look_like_a_providers(upstream: Control, provider: str, status: int) -> None:
    upstream.script(fault=f"{provider}_{status}")
    answer = httpx2.post(
        f"{upstream.base_url}/chat/completions", json={"model": "m", "messages": USER}
    )
    body, headers = provider_error(provider, status)
    assert (answer.status_code, answer.json()) == (status, body)
    assert headers.items() <= dict(answer.headers).items()
    assert "[simulated]" in answer.text


def test_who_says_how_long_to_wait() -> None:
    told = {name: provider_error(name, 429)[1].get("retry-after") for name in PROVIDER_STATUSES}
    assert [name for name, seconds in told.items() if seconds] == ["openai", "azure", "anthropic"]
    (gemini,) = provider_error("gemini", 429)[0]
    assert gemini["error"]["details"][1]["retryDelay"] == "7s"


async def test_ports_at_which_connecting_goes_wrong(upstream: Control) -> None:
    ports = upstream.ports()
    assert upstream.ports() == ports
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", ports["refused"])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.open_connection("127.0.0.1", ports["unreachable"]), 0.2)
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("127.0.0.1", ports["wrong_certificate"], ssl=context)
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection("127.0.0.1", ports["tls_broken"], ssl=context)
    reader, writer = await asyncio.open_connection("127.0.0.1", ports["not_http"])
    assert (await reader.read(100)).startswith(b"220 ")
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", ports["silent"])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    writer.close()
