"""The upstream and the load generator together: what is counted is what was sent."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson
import pytest

from benchmarks import fast_upstream
from benchmarks.fast_upstream import ANSWER_BYTES, DEFAULT_CHUNKS
from benchmarks.load import Load, run


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await fast_upstream.serve("127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.sleep(0)


async def exchange(port: int, *parts: bytes) -> bytes:
    """What the upstream answers to these bytes, up to half a second of silence."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.01)
    answer = b""
    while not answer.endswith((b"}", b"0\r\n\r\n")):
        block = await asyncio.wait_for(reader.read(65536), 5)
        if not block:
            break
        answer += block
    writer.close()
    await writer.wait_closed()
    return answer


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


@pytest.mark.parametrize("prompts", ["fixed", "unique", "repeated"])
async def test_every_answer_is_counted_once(port: int, prompts: str) -> None:
    outcome = await run(Load(port, "fast", concurrency=4, count=37, prompts=prompts))
    assert (outcome.requests, outcome.errors) == (37, 0)
    assert outcome.latency is not None
    assert 0 < outcome.latency.p50 <= outcome.latency.p99 <= outcome.seconds * 1e3
    assert outcome.first_chunk is None


async def test_a_timed_load_ends_and_waits_for_its_last_answers(port: int) -> None:
    outcome = await run(Load(port, "fast", concurrency=3, seconds=0.1))
    assert outcome.requests > 3
    assert outcome.errors == 0
    assert outcome.requests_per_second == pytest.approx(outcome.requests / outcome.seconds)


@pytest.mark.parametrize(
    ("model", "chunks"),
    [("fast", DEFAULT_CHUNKS), ("fast-7x0", 7), ("any-300x0", 300), ("m-5x2", 5)],
)
async def test_every_chunk_of_a_stream_is_counted(port: int, model: str, chunks: int) -> None:
    load = Load(port, model, concurrency=3, count=8, stream=True, chunks=chunks)
    outcome = await run(load)
    assert (outcome.requests, outcome.errors) == (8, 0)
    assert outcome.chunks == 8 * (chunks + 1)  # the finish is an event of its own
    assert outcome.first_chunk is not None
    assert outcome.latency is not None
    assert 0 < outcome.first_chunk.p50 <= outcome.latency.p50


async def test_a_stream_that_lacks_chunks_is_an_error(port: int) -> None:
    load = Load(port, "fast-5x0", concurrency=2, count=4, stream=True, chunks=50)
    outcome = await run(load)
    assert (outcome.requests, outcome.errors, outcome.chunks) == (0, 4, 0)
    assert "6 chunks where 50 were sent" in outcome.error_samples[0]


async def test_a_refusal_is_an_error(port: int) -> None:
    outcome = await run(Load(port, "fast", path="/elsewhere", concurrency=2, count=6))
    assert (outcome.requests, outcome.errors) == (0, 6)
    assert outcome.error_samples[0].startswith("status 404")


Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(answer: bytes) -> Answering:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return one


SSE = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "stream"),
    [
        (b"", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", False),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", False),
        (SSE + b"a\r\ndata: 1\n\n\r\n", True),
        (SSE + b"zz\r\n", True),
        (SSE + b"9\r\ndata: 1\n\n\r\n0\r\n\r\n", True),
    ],
    ids=["nothing", "cut", "other answer", "no framing", "cut stream", "malformed", "no end"],
)
async def test_a_broken_answer_is_an_error_and_not_a_hang(answer: bytes, stream: bool) -> None:
    server = await asyncio.start_server(answering(answer), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        outcome = await asyncio.wait_for(run(Load(port, "m", count=2, stream=stream)), 5)
    assert outcome.requests == 0
    assert outcome.errors >= 2


async def test_an_upstream_that_is_away_is_an_error() -> None:
    server = await asyncio.start_server(answering(b""), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    outcome = await run(Load(port, "fast", count=1))
    assert (outcome.requests, outcome.errors) == (0, 1)


async def test_an_answer_that_never_comes_is_an_error() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        load = Load(port, "fast", seconds=0.05, patience_seconds=0.05)
        outcome = await asyncio.wait_for(run(load), 5)
    assert (outcome.requests, outcome.errors) == (0, 1)
    assert outcome.error_samples == ("no answer in time",)


async def test_the_answer_has_its_size_and_usage(port: int) -> None:
    answer = await exchange(port, post(b'{"model":"fast","unknown":[{"a":1}]}'))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert len(body) == ANSWER_BYTES
    assert orjson.loads(body)["usage"]["total_tokens"] == 190


async def test_usage_is_streamed_only_when_asked_for(port: int) -> None:
    plain = await exchange(port, post(b'{"model":"m-2x0","stream":true}'))
    asked = b'{"model":"m-2x0","stream":true,"stream_options":{"include_usage":true}}'
    assert b'"usage"' not in plain
    assert b'"usage":{"prompt_tokens":62,"completion_tokens":2' in await exchange(port, post(asked))


async def test_a_large_body_in_many_pieces_is_read_whole(port: int) -> None:
    body = orjson.dumps({"model": "fast", "more": "x" * 3_000_000})
    assert b"200 OK" in await exchange(port, post(body))
    pieces = b"".join(
        b"%x\r\n%s\r\n" % (len(piece), piece)
        for piece in (body[at : at + 70_000] for at in range(0, len(body), 70_000))
    )
    head = b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b"200 OK" in await exchange(port, head, pieces, b"0\r\n\r\n")


async def test_requests_in_one_write_are_answered_in_order(port: int) -> None:
    both = post(b'{"model":"m-2x0","stream":true}') + post(b'{"model":"second"}')
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(both)
    answer = await asyncio.wait_for(reader.readuntil(b'"fp_fast"}'), 5)
    while b'"second"' not in answer:
        answer += await asyncio.wait_for(reader.readuntil(b'"fp_fast"}'), 5)
    assert answer.index(b"[DONE]") < answer.index(b'"second"')
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(b"{"), b"400"),
        (post(b"[]"), b"400"),
        (post(b'{"model":7}'), b"400"),
        (post(b'{"model":"m","stream":true,"stream_options":[1]}'), b"400"),
        (b"GET /v1/chat/completions HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /v1/models HTTP/1.1\r\n\r\n", b"200"),
        (b"GET /healthy HTTP/1.1\r\n\r\n", b"404"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000, b"431"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nq\r\n", b"400"),
    ],
)
async def test_what_is_not_a_request_is_refused(
    port: int, request_bytes: bytes, status: bytes
) -> None:
    assert (await exchange(port, request_bytes))[9:12] == status
