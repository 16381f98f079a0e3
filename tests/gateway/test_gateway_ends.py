"""How streams end: where they say so, and never quietly in the middle."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import openai
import orjson
import pytest
from openai import AsyncOpenAI

from app.simulated.control import Control
from tests.gateway.conftest import MODELS, Gateway, Serve, body, eventually
from tests.gateway.test_gateway_once import raw_upstream

USER: Any = [{"role": "user", "content": "Hello"}]
SHORT = (
    """
upstreams:
  sim:
    kind: openai
    base_url: {upstream}
    timeouts: {{first_byte_seconds: 0.5, idle_seconds: 5, total_seconds: 2}}
models:"""
    + MODELS
    + """
routes:
  auto: {{candidates: [small, medium], baseline: large, router: null, objective: {{kind: quality,
    keep: 0.5}}}}
"""
)


def event(**fields: Any) -> str:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up", **fields}
    return "data: " + orjson.dumps(chunk).decode() + "\n\n"


def words(text: str, finish: str | None = None) -> str:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


async def read(client: AsyncOpenAI, **fields: Any) -> str:
    stream = await client.chat.completions.create(
        **{"model": "medium", "messages": USER, "stream": True, **fields}
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


@pytest.mark.parametrize("tail", ["", 'data: {"id":"c","choi', "data: [DO"])
async def test_a_stream_that_stops_in_the_middle_is_an_error(
    client: AsyncOpenAI, standard: Gateway, simulated: Control, tail: str
) -> None:
    broken = {"model": "medium", "code": "broken"}
    before = standard.metric("pointsman_requests_total", **broken)
    simulated.script("up-medium", raw_sse=[words("one "), words("two"), tail])
    with pytest.raises(openai.APIError, match="ended before its answer did"):
        await read(client)
    assert standard.metric("pointsman_requests_total", **broken) == before + 1
    cut = {"model": "medium", "outcome": "cut"}
    assert standard.metric("pointsman_upstream_attempts_total", **cut) >= 1


async def test_a_stream_may_end_without_done_if_its_answer_did(
    client: AsyncOpenAI, simulated: Control
) -> None:
    simulated.script("up-medium", raw_sse=[words("one "), words("two", "stop").rstrip("\n")])
    assert await read(client) == "one two"


@pytest.mark.parametrize("fault", [{"cut_after_chunks": 3}, {"stall_after_chunks": 2}])
async def test_a_stream_that_breaks_is_counted_as_broken(
    gateway: Serve, simulated: Control, fault: dict[str, Any]
) -> None:
    one = gateway(SHORT)
    before = one.metric("pointsman_requests_total", code="broken")
    async with one.client() as client:
        with pytest.raises(openai.APIError):
            await read(client, extra_body={"x_simulate": fault})
    assert one.metric("pointsman_requests_total", code="broken") == before + 1


async def test_done_ends_the_stream_whatever_the_upstream_does(gateway: Serve) -> None:
    """It keeps the connection open, or sends on: the client is done, and so are the books."""
    chunks = (words("hi", "stop") + "data: [DONE]\n\n" + words("more")).encode()
    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        b"%x\r\n%s\r\n" % (len(chunks), chunks)
    )  # the last chunk never comes
    async with raw_upstream(gateway, lambda *_: answer) as (_, one), one.client() as client:
        started = time.monotonic()
        assert await read(client, model="one") == "hi"
        assert time.monotonic() - started < 3
    eventually(lambda: one.metric("pointsman_requests_in_flight") == 0)
    assert one.metric("pointsman_requests_total", code="200", model="one") == 1
    assert one.metric("pointsman_requests_total", code="499") == 0


async def test_the_first_event_must_come_in_time(gateway: Serve, simulated: Control) -> None:
    """A head and comments are not an answer: the next model takes over unseen."""
    one = gateway(SHORT)
    simulated.script("up-small", times=None, first_byte_delay_seconds=3)
    async with one.client() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="auto", messages=USER, stream=True
        )
        assert raw.headers["x-pointsman-model"] == "medium"
        await raw.http_response.aclose()


async def test_a_reader_that_stops_is_given_up(gateway: Serve, simulated: Control) -> None:
    """Nobody may hold an upstream's connection for ever by not reading."""
    one = gateway(SHORT)
    request = orjson.dumps(
        body(model="medium", stream=True, x_simulate={"chunks": 4000, "text": "x " * 4_000_000})
    )
    with socket.create_connection(("127.0.0.1", one.port)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(request)}"
        sock.sendall(f"{head}\r\n\r\n".encode() + request)
        await asyncio.to_thread(eventually, lambda: one.metric("pointsman_requests_in_flight") == 1)
        await asyncio.to_thread(
            eventually, lambda: one.metric("pointsman_requests_in_flight") == 0, 10
        )


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_offer_of_http2_is_ignored(standard: Gateway, pieces: int) -> None:
    """Java's client offers h2c with every request."""
    content = orjson.dumps(body(model="medium"))
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        f"Content-Length: {len(content)}\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA\r\n"
        "Upgrade: h2c\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", standard.port)) as sock:
        for _ in range(2):  # the connection stays good for a second request
            if pieces == 1:
                sock.sendall(head + content)
            else:
                sock.sendall(head)
                sock.sendall(content)
            answer = b""
            while b'"system_fingerprint"' not in answer:
                piece = sock.recv(65536)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_request_too_long_for_one_model_may_fit_another(
    client: AsyncOpenAI, simulated: Control
) -> None:
    refusal = {"message": "too long", "type": "x", "param": None, "code": "context_length_exceeded"}
    simulated.script("up-small", status=400, error={"error": refusal})
    reply = await client.chat.completions.create(model="auto", messages=USER)
    assert reply.model == "medium"


@pytest.mark.parametrize("status", [400, 422])
async def test_a_refusal_that_quotes_the_key_is_not_passed_on(
    client: AsyncOpenAI, simulated: Control, status: int
) -> None:
    refusal = {"message": "wrong key: secret-of-the-gateway", "type": "x", "code": "y"}
    simulated.script("*", times=None, status=status, error=refusal)
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(model="auto", messages=USER)
    assert caught.value.code == "upstream_rejected_key"
    assert "secret" not in caught.value.response.text


def test_every_answer_names_its_request(standard: Gateway) -> None:
    paths = ["/v1/models", "/livez", "/metrics", "/nope", "/v1/chat/completions"]
    answers = [standard.http.get(path) for path in paths]
    answers.append(standard.chat(content=b"{"))
    ids = [answer.headers["x-pointsman-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    refused = answers[-1].headers
    assert (refused["x-pointsman-route"], refused["x-pointsman-decision"]) == ("none", "none")


def test_a_slow_upload_is_not_our_time(standard: Gateway) -> None:
    content = orjson.dumps(body(model="medium"))

    def slowly() -> Any:
        yield content[:10]
        time.sleep(0.5)
        yield content[10:]

    url = f"{standard.url}/v1/chat/completions"
    answer = standard.http.post(url, content=slowly(), headers={"x-pointsman-debug": "true"})
    assert answer.status_code == 200
    assert float(answer.headers["x-pointsman-decide-ms"]) < 400
