"""The transport before servers that do everything that HTTP allows, and what it forbids."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from app import simulated
from app.delivery.upstreams import connection, connections, unpacking
from app.delivery.upstreams.base import Timeouts
from app.delivery.upstreams.http import HTTPClient, HTTPUpstream
from app.errors import (
    ConnectFailed,
    MalformedReply,
    StaleConnection,
    UpstreamCut,
    UpstreamError,
    UpstreamTimeout,
)

CERTIFICATE = Path(simulated.__file__).with_name("wrong_host.pem")
TIMES = Timeouts(connect=5, first_byte=5, idle=5, total=5)
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def asked(reader: asyncio.StreamReader) -> bytes:
    """One request, whole; IncompleteReadError at the end of the connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    return head + await reader.readexactly(int(length.split(b":")[1]))


def answering(*answers: bytes, closes: bool = False) -> Handler:
    """Each request of a connection gets the next answer; after the last it is closed, or open."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await asked(reader)
            writer.write(answer)
        if closes:
            writer.close()
        else:
            await reader.read()

    return handle


class Server:
    """Counts the connections that were made to it."""

    def __init__(self, handle: Handler) -> None:
        self.handle = handle
        self.made = 0
        self.serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await self.handle(reader, writer)
        finally:
            writer.transport.abort()

    async def end(self) -> None:
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)
        await asyncio.sleep(0)


@asynccontextmanager
async def served(
    handle: Handler, times: Timeouts = TIMES
) -> AsyncIterator[tuple[Server, HTTPUpstream]]:
    one = Server(handle)
    listening = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with HTTPClient() as client:
        yield one, HTTPUpstream("u", f"http://127.0.0.1:{port}/v1", {}, times, client)
    listening.close()
    await one.end()


async def ask(upstream: HTTPUpstream, body: bytes = b"{}") -> bytes:
    return await (await upstream.post("/chat", body)).read()


async def test_the_request_is_what_was_to_be_sent() -> None:
    seen = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await asked(reader))
        writer.write(WHOLE)

    async with served(handle) as (_, upstream):
        assert await ask(upstream, b'{"a": 1}') == b"hi"
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert body == b'{"a": 1}'
    line, *headers = head.split(b"\r\n")
    assert line == b"POST /v1/chat HTTP/1.1"
    assert {b"Content-Length: 8", b"Content-Type: application/json"} <= set(headers)
    assert sum(header.startswith(b"Host: 127.0.0.1:") for header in headers) == 1


async def test_a_header_of_the_operators_takes_the_place_of_ours() -> None:
    client = HTTPClient()
    upstream = HTTPUpstream("u", "http://x", {"user-agent": "acme"}, TIMES, client)
    head = upstream._head("/chat", 2)
    assert b"\r\nuser-agent: acme\r\n" in head
    assert head.lower().count(b"user-agent") == 1


CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"2;x=y\r\nhi\r\n0\r\nafter: the end\r\n\r\n"
)
CONTINUED = b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + WHOLE


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED, CONTINUED], ids=["length", "chunks", "100"])
async def test_a_connection_serves_one_request_after_the_other(answer: bytes) -> None:
    async with served(answering(answer, answer, answer)) as (server, upstream):
        for _ in range(3):
            answered = await upstream.post("/chat", b"{}")
            assert await answered.read() == b"hi"
            assert answered.headers.get("x") is None
        assert server.made == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        WHOLE + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        WHOLE + b"\0\0",
    ],
    ids=["close", "1.0", "another answer", "rubbish"],
)
async def test_a_connection_that_is_not_to_be_trusted_serves_no_other(answer: bytes) -> None:
    async with served(answering(answer, WHOLE)) as (server, upstream):
        assert await ask(upstream) == b"hi"
        assert await ask(upstream) == b"hi"
        assert server.made == 2


async def test_what_comes_unasked_ends_a_kept_connection() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(WHOLE)
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await reader.read()

    async with served(handle) as (server, upstream):
        assert await ask(upstream) == b"hi"
        await asyncio.sleep(0.1)
        assert await ask(upstream) == b"hi"
        assert server.made == 2


async def test_who_speaks_before_it_was_asked_does_not_speak_http() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.read()

    async with served(handle) as (_, upstream):
        made = await upstream.client.connections.connect(upstream._origin)
        await asyncio.sleep(0.05)
        with pytest.raises(connection.NotHTTP):
            await made.send(b"", b"", asyncio.get_running_loop()).head()


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    handle = answering(b"HTTP/1.1 200 OK\r\n\r\nhi", closes=True)
    async with served(handle) as (_, upstream):
        assert await ask(upstream) == b"hi"


def reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ],
)
@pytest.mark.parametrize("rudely", [False, True])
async def test_an_answer_that_breaks_off_is_cut(answer: bytes, rudely: bool) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(answer)
        await asyncio.sleep(0.02)
        if rudely:
            reset(writer)

    async with served(handle) as (_, upstream):
        with pytest.raises(UpstreamCut):
            await ask(upstream)


async def test_an_endless_one_that_is_reset_is_cut() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhi")
        await asyncio.sleep(0.02)
        reset(writer)

    async with served(handle) as (_, upstream):
        answer = await upstream.post("/chat", b"{}")
        assert await answer.block() == b"hi"
        with pytest.raises(UpstreamCut):
            await answer.block()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (connection.MAX_HEAD_BYTES + 1),
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * connection.MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhi\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 000 What\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 199 What\r\ncontent-length: 4\r\n\r\nevil" + WHOLE,
        CHUNKED.partition(b"0\r\n")[0] + b"0\r\nx: " + b"y" * 4 * connection.MAX_HEAD_BYTES,
        CHUNKED.partition(b"x=y")[0] + b"y" * 4 * connection.MAX_HEAD_BYTES,
    ],
    ids=["no HTTP", "101", "two lengths", "both framings", "no number", "long header",
         "many headers", "no chunk", "unknown packing", "no status", "a body before the answer",
         "long trailer", "long chunk extension"],
)  # fmt: skip
async def test_what_is_no_answer_is_malformed(answer: bytes) -> None:
    async with served(answering(answer, WHOLE)) as (server, upstream):
        with pytest.raises(MalformedReply):
            await asyncio.wait_for(ask(upstream), 2)
        server.handle = answering(WHOLE)
        assert await ask(upstream) == b"hi"


async def test_a_kept_connection_that_is_closed_is_stale_and_nothing_worse() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(WHOLE)
        await reader.read(1)  # the second request

    async with served(handle) as (_, upstream):
        assert await ask(upstream) == b"hi"
        with pytest.raises(StaleConnection):
            await ask(upstream)


@pytest.mark.parametrize("part", [b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_kept_connection_that_began_to_answer_was_not_stale(part: bytes) -> None:
    """The request was taken: it may have been served, and must not be sent a second time here."""
    async with served(answering(WHOLE, part, closes=True)) as (_, upstream):
        assert await ask(upstream) == b"hi"
        with pytest.raises(UpstreamCut) as caught:
            await ask(upstream)
        assert not isinstance(caught.value, StaleConnection)


async def test_a_length_may_be_written_with_zeros() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: " + b"0" * 5_000 + b"2\r\n\r\nhi"
    async with served(answering(answer)) as (_, upstream):
        assert await ask(upstream) == b"hi"


async def test_an_answer_before_all_was_sent_is_one_and_its_connection_serves_no_other() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(0.5)

    async with served(handle) as (server, upstream):
        answer = await upstream.post("/chat", b"x" * 64_000_000)
        assert answer.status == 413
        assert await answer.read() == b"no"
        await asyncio.sleep(0)
        server.handle = answering(WHOLE)
        assert await ask(upstream) == b"hi"
        assert server.made == 2


def refusing(answer: bytes, *, ends: bool) -> Handler:
    """Answers before it has all of the request, whose rest it never reads."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        writer.write(answer)
        if ends:
            writer.write_eof()
        await asyncio.sleep(10)

    return handle


NO = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"


@pytest.mark.parametrize("answer", [NO, b"HTTP/1.1 413 Too Large\r\n\r\nno"])
async def test_the_rest_of_a_request_is_not_kept_for_who_has_answered(answer: bytes) -> None:
    async with served(refusing(answer, ends=answer != NO)) as (_, upstream):
        answered = await upstream.post("/chat", b"x" * 64_000_000)
        assert await asyncio.wait_for(answered.read(), 2) == b"no"
        await asyncio.sleep(0.05)
        assert not upstream.client.connections._open


async def test_who_has_ended_its_side_unanswered_will_not_answer() -> None:
    async with served(refusing(b"", ends=True)) as (_, upstream):
        with pytest.raises(UpstreamCut):
            await asyncio.wait_for(upstream.post("/chat", b"x" * 64_000_000), 2)


async def test_who_reads_slowly_makes_the_upstream_wait() -> None:
    sent = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        for _ in range(1_000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000
        await reader.read()  # what was not sent yet would be lost

    async with served(handle) as (_, upstream):
        answer = await upstream.post("/chat", b"{}")
        await asyncio.sleep(0.3)
        before = sent
        assert before < 50_000_000
        read = 0
        while block := await answer.block():
            answer.begin()
            read += len(block)
        assert read == 100_000_000


@pytest.mark.parametrize("endless", [False, True])
async def test_the_rest_of_what_nobody_wants_is_read_in_the_background(
    endless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.delivery.upstreams.http._DRAIN_SECONDS", 0.2)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await asked(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhi")
            await asyncio.sleep(0.05)
            if not endless:
                writer.write(b"ho")

    async with served(handle) as (server, upstream):
        answer = await upstream.post("/chat", b"{}")
        assert await answer.block() == b"hi"
        answer.finish()
        await asyncio.sleep(0.3)
        second = await upstream.post("/chat", b"{}")
        assert await second.block() == b"hi"
        assert server.made == (2 if endless else 1)


async def test_who_gives_up_waiting_hangs_up() -> None:
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        gone.set()

    async with served(handle) as (_, upstream):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await upstream.post("/chat", b"{}")
        await asyncio.wait_for(gone.wait(), 2)


@pytest.mark.parametrize("which", ["first_byte", "total"])
async def test_a_head_that_does_not_come_is_a_timeout(which: str) -> None:
    times = Timeouts(**{"connect": 5, "first_byte": 5, "idle": 5, "total": 5, which: 0.1})
    async with served(answering(b""), times) as (_, upstream):
        with pytest.raises(UpstreamTimeout):
            await upstream.post("/chat", b"{}")


async def test_nobody_there_is_a_failure_to_connect() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        async with HTTPClient() as client:
            with pytest.raises(ConnectFailed):
                await HTTPUpstream("u", url, {}, TIMES, client).post("/chat", b"{}")


async def test_a_host_that_does_not_answer_is_looked_up_again() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        times = Timeouts(connect=0.1, first_byte=5, idle=5, total=5)
        async with HTTPClient() as client:
            with pytest.raises(ConnectFailed):
                await ask(HTTPUpstream("u", f"http://127.0.0.1:{port}", {}, times, client))
            assert not client.connections._addresses
        for one in waiting:
            one.close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".example", "127.0.0.1"])
async def test_no_host_and_no_tls_is_a_failure_to_connect(host: str) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with served(plain) as (server, upstream):
        url = f"https://{host}:{upstream._origin.port}"
        with pytest.raises(ConnectFailed):
            await HTTPUpstream("v", url, {}, TIMES, upstream.client).post("/chat", b"{}")
        assert server.made == (host == "127.0.0.1")


@asynccontextmanager
async def served_over_tls(
    handle: Handler, host: str = "elsewhere.invalid"
) -> AsyncIterator[tuple[Server, HTTPUpstream]]:
    """The certificate is for `elsewhere.invalid`; whoever asks must trust it."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTIFICATE)
    one = Server(handle)
    listening = await asyncio.start_server(one.serve, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    here = await loop.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
    async with HTTPClient() as client:
        client.connections._addresses[host, port] = (loop.time(), here)
        yield one, HTTPUpstream("u", f"https://{host}:{port}", {}, TIMES, client)
    listening.close()
    await one.end()


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


@pytest.mark.usefixtures("trusted")
async def test_over_tls_the_host_must_be_who_it_says() -> None:
    handle = answering(CHUNKED, packed("gzip", PACKED["gzip"]))
    async with served_over_tls(handle) as (one, upstream):
        assert await ask(upstream) == b"hi"
        assert await ask(upstream) == TEXT
        assert one.made == 1
        url = f"https://127.0.0.1:{upstream._origin.port}"
        with pytest.raises(ConnectFailed):
            await ask(HTTPUpstream("v", url, {}, TIMES, upstream.client))
        assert len(upstream.client.connections._open) == 1


@pytest.mark.usefixtures("trusted")
async def test_over_tls_a_host_may_be_written_in_full() -> None:
    async with served_over_tls(answering(WHOLE), "elsewhere.invalid.") as (_, upstream):
        assert await ask(upstream) == b"hi"


@pytest.mark.usefixtures("trusted")
async def test_over_tls_too_who_answers_before_all_was_sent_serves_no_other() -> None:
    async with served_over_tls(refusing(NO, ends=False)) as (server, upstream):
        assert await ask(upstream, b"x" * 16_000_000) == b"no"
        await asyncio.sleep(0.05)
        assert not upstream.client.connections._open
        server.handle = answering(WHOLE)
        assert await ask(upstream) == b"hi"
        assert server.made == 2


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_who_leaves_before_tls_begins_is_a_failure_to_connect_and_no_more(greeting: bytes) -> None:
    async def meet() -> None:
        seen: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: seen.append(context))

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(greeting)
            if not greeting:
                reset(writer)

        async with served(handle) as (_, upstream):
            url = f"https://127.0.0.1:{upstream._origin.port}"
            secure = HTTPUpstream("v", url, {}, TIMES, upstream.client)
            for _ in range(20):
                with pytest.raises(ConnectFailed):
                    await ask(secure)
        assert not seen

    uvloop.run(meet())


LONG = b"x" * 450_000
"""More than is taken in unread, less than is read ahead by TLS as well."""


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("headers", [b"content-length: 450000\r\nconnection: close", b"x: y"])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_over_tls_nothing_is_lost_of_what_is_read_slowly(
    headers: bytes, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def read() -> None:
        handle = answering(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (headers, LONG), closes=True)
        async with served_over_tls(handle) as (_, upstream):
            answer = await upstream.post("/chat", b"{}")
            await asyncio.sleep(0.1)
            blocks = []
            while block := await answer.block():
                blocks.append(block)
            assert b"".join(blocks) == LONG

    run(read())


@pytest.mark.usefixtures("trusted")
def test_over_tls_the_end_of_an_answer_without_a_length_must_be_told() -> None:
    """Or who can cut the connection could cut the answer unseen. Only uvloop can tell."""

    async def cut() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asked(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nhi")
            await asyncio.sleep(0.05)
            writer.transport.abort()

        async with served_over_tls(handle) as (_, upstream):
            with pytest.raises(UpstreamCut):
                await ask(upstream)

    uvloop.run(cut())


async def test_one_address_of_several_is_enough() -> None:
    """`localhost` is ::1 as well, where nobody listens."""
    async with served(answering(WHOLE)) as (_, upstream):
        url = f"http://localhost:{upstream._origin.port}/v1"
        assert await ask(HTTPUpstream("u", url, {}, TIMES, upstream.client)) == b"hi"


async def test_an_upstream_is_found_by_number_in_version_six() -> None:
    one = Server(answering(WHOLE))
    listening = await asyncio.start_server(one.serve, "::1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with HTTPClient() as client:
        upstream = HTTPUpstream("u", f"http://[::1]:{port}", {}, TIMES, client)
        assert await ask(upstream) == b"hi"
    listening.close()
    await one.end()


async def test_what_was_not_used_for_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEPT_SECONDS", 0.2)
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(WHOLE)
        with suppress(ConnectionError):
            await reader.read()
        gone.set()

    async with served(handle) as (_, upstream):
        assert await ask(upstream) == b"hi"
        assert len(upstream.client.connections._open) == 1
        await asyncio.wait_for(gone.wait(), 2)
        await asyncio.sleep(0.02)
        assert not upstream.client.connections._open
        assert not any(upstream.client.connections._free.values())


# --- compressed although that was not asked for --------------------------------------------------

TEXT = bytes(range(256)) * 4_000
RAW = zlib.compressobj(wbits=-15)
PACKED = {
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT[:1_000]) + gzip.compress(TEXT[1_000:]),
    "deflate": zlib.compress(TEXT),
    "Deflate": RAW.compress(TEXT) + RAW.flush(),
}


def packed(encoding: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("encoding", PACKED)
async def test_packed_bodies(encoding: str) -> None:
    async with served(answering(packed(encoding, PACKED[encoding]))) as (_, upstream):
        assert await ask(upstream) == TEXT


@pytest.mark.parametrize("encoding", ["Identity", ""])
async def test_a_body_that_is_said_not_to_be_packed(encoding: str) -> None:
    async with served(answering(packed(encoding, b"hi"))) as (_, upstream):
        assert await ask(upstream) == b"hi"


@pytest.mark.parametrize("more", [0, 5, 100])
def test_a_packed_body_may_end_just_after_a_full_piece(more: int) -> None:
    text = b"\0" * (unpacking.PIECE_BYTES + more)
    raw = zlib.compressobj(wbits=-15)
    inflating = unpacking.unpacking("deflate")
    assert b"".join(inflating.pieces(raw.compress(text) + raw.flush())) == text
    inflating.end()


@pytest.mark.parametrize(
    "body", [PACKED["gzip"][:-20], b"no gzip at all", PACKED["gzip"] + b"more"]
)
async def test_badly_packed_bodies(body: bytes) -> None:
    async with served(answering(packed("gzip", body))) as (_, upstream):
        with pytest.raises(UpstreamError) as caught:
            await ask(upstream)
        assert caught.value.code == MalformedReply.code


async def test_a_bomb_is_not_inflated_further_than_it_is_read() -> None:
    bomb = gzip.compress(b"\0" * 200_000_000)
    async with served(answering(packed("gzip", bomb))) as (_, upstream):
        answer = await upstream.post("/chat", b"{}")
        first = await answer.block()
        assert 0 < len(first) <= 1024 * 1024
        with pytest.raises(MalformedReply, match="too large"):
            await answer.read(10_000_000)
        answer.close()


async def test_each_of_many_at_once_gets_its_own() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            body = (await asked(reader)).partition(b"\r\n\r\n")[2]
            await asyncio.sleep(len(body) % 7 / 1_000)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    async with served(handle) as (server, upstream):

        async def client(number: int) -> None:
            for turn in range(20):
                body = b"%d-%d" % (number, turn)
                assert await ask(upstream, body * (turn + 1)) == body * (turn + 1)

        await asyncio.gather(*map(client, range(20)))
        assert server.made <= 20


async def test_closing_an_answer_that_is_over_costs_its_connection_nothing() -> None:
    async with served(answering(WHOLE, WHOLE)) as (server, upstream):
        answer = await upstream.post("/chat", b"{}")
        assert await answer.read() == b"hi"
        answer.close()
        answer.finish()
        assert await ask(upstream) == b"hi"
        assert server.made == 1
