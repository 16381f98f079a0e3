"""Clients that are slow, endless or do not speak HTTP: refused in time, at nobody's expense."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import orjson
import pytest

from app.simulated.control import Control
from tests.gateway.conftest import Gateway, Serve

IMPATIENT = """
server: {{header_timeout_seconds: 0.5, body_timeout_seconds: 0.5}}
upstreams: {{sim: {{kind: openai, base_url: "{upstream}"}}}}
models: {{one: {{upstream: sim}}}}
routes: {{auto: {{candidates: [one], router: null}}}}
"""
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
SOUND = b'{"model":"auto","messages":[{"role":"user","content":"x"}]}'


@asynccontextmanager
async def connected(
    gateway: Gateway,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])


async def read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    """What comes before the end, which is a reset where the client has not stopped sending."""
    answer = b""
    with suppress(ConnectionResetError):
        while piece := await reader.read(65536):
            answer += piece
    return answer


async def answer_to(gateway: Gateway, *pieces: bytes, pause: float = 0.0) -> tuple[int, Any]:
    """Status and error of the answer to raw bytes, sent in pieces until the answer comes."""
    async with connected(gateway) as (reader, writer):
        reading = asyncio.ensure_future(read_to_the_end(reader))
        for piece in pieces:
            if reading.done():
                break
            writer.write(piece)
            await asyncio.wait([reading], timeout=pause)
        answer = await asyncio.wait_for(reading, 10)
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), orjson.loads(content)["error"]


async def test_slow_headers(gateway: Serve) -> None:
    one = gateway(IMPATIENT)
    started = time.monotonic()
    drip = [CHAT, *[b"x-drip: 1\r\n"] * 100]
    status, error = await answer_to(one, *drip, pause=0.1)
    assert (status, error["code"]) == (408, "caller_headers_too_slow")
    assert time.monotonic() - started < 5


async def test_slow_body(gateway: Serve) -> None:
    one = gateway(IMPATIENT)
    started = time.monotonic()
    drip = [CHAT + b"content-length: 1000\r\n\r\n", *[b" "] * 100]
    status, error = await answer_to(one, *drip, pause=0.1)
    assert (status, error["code"]) == (408, "caller_body_too_slow")
    assert time.monotonic() - started < 5


async def test_slow_headers_on_a_connection_kept_alive(gateway: Serve) -> None:
    one = gateway(IMPATIENT)
    request = CHAT + b"content-length: %d\r\n\r\n%s" % (len(SOUND), SOUND)
    async with connected(one) as (reader, writer):
        for _ in range(2):
            writer.write(request)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 200")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            await asyncio.sleep(0.7)  # longer than headers may take: idle is not slow
        writer.write(CHAT)
        rest = await asyncio.wait_for(reader.read(), 10)
    assert rest.startswith(b"HTTP/1.1 408")


async def test_a_silent_connection_is_closed(gateway: Serve) -> None:
    async with connected(gateway(IMPATIENT)) as (reader, _):
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_header_bomb(standard: Gateway) -> None:
    bomb = [b"x-bomb-%d: %s\r\n" % (number, b"x" * 1000) for number in range(2000)]
    status, error = await answer_to(standard, CHAT, *bomb)
    assert (status, error["code"]) == (431, "caller_headers_too_large")


async def test_one_endless_header(standard: Gateway) -> None:
    status, error = await answer_to(standard, CHAT + b"x-bomb: ", *[b"x" * 65536] * 100)
    assert (status, error["code"]) == (431, "caller_headers_too_large")


async def test_an_endless_address(standard: Gateway) -> None:
    status, error = await answer_to(standard, b"GET /", *[b"x" * 65536] * 100)
    assert status in (414, 431)
    assert error["code"].startswith("caller_")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        CHAT + b"content-length: -1\r\n\r\n",
        CHAT + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
        CHAT + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        CHAT + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        CHAT + b"bad header\r\n\r\n",
    ],
)
async def test_no_http(standard: Gateway, nonsense: bytes) -> None:
    status, error = await answer_to(standard, nonsense)
    assert status == 400
    assert error["code"].startswith("caller_")


async def test_a_chunked_body_is_taken(standard: Gateway, simulated: Control) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in SOUND)
    async with connected(standard) as (reader, writer):
        writer.write(CHAT + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 200")
    assert simulated.log()[-1]["body"].encode() == SOUND.replace(b"auto", b"up-small")


async def test_leaving_in_the_middle_of_a_body(standard: Gateway, simulated: Control) -> None:
    for _ in range(20):
        async with connected(standard) as (_, writer):
            writer.write(CHAT + b"content-length: 1000\r\n\r\n{")
            await writer.drain()
    assert standard.chat().status_code == 200
    assert len(simulated.log()) == 1


async def test_slow_clients_do_not_slow_the_others(gateway: Serve) -> None:
    one = gateway(IMPATIENT)
    async with AsyncExitStack() as slow:
        for _ in range(200):
            _, writer = await slow.enter_async_context(connected(one))
            writer.write(CHAT)
        started = time.monotonic()
        assert (await asyncio.to_thread(one.chat)).status_code == 200
        assert time.monotonic() - started < 2


async def test_pipelined_requests_are_answered_in_order(standard: Gateway) -> None:
    requests = b"".join(
        CHAT + b"content-length: %d\r\n\r\n%s" % (len(body), body)
        for body in (SOUND, SOUND.replace(b"auto", b"nothing"), SOUND)
    )
    statuses = []
    async with connected(standard) as (reader, writer):
        writer.write(requests)
        for _ in range(3):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            statuses.append(int(head.split()[1]))
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
    assert statuses == [200, 404, 200]


async def test_a_body_is_asked_for_when_the_client_waits_to_be_asked(standard: Gateway) -> None:
    async with connected(standard) as (reader, writer):
        writer.write(CHAT + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(SOUND))
        go = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert go.startswith(b"HTTP/1.1 100")
        writer.write(SOUND)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 200")


async def test_an_old_client_is_answered_and_left(standard: Gateway) -> None:
    async with connected(standard) as (reader, writer):
        head = b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(SOUND)
        writer.write(head + SOUND)
        answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 200")
