"""A request is sent once: again only where the first sending cannot have been read."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.gateway.conftest import Gateway, Serve

BODY = b'{"object":"chat.completion","model":"one","choices":[]}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)
) + BODY
CONFIG = """
upstreams: {{{{raw: {{{{kind: openai, base_url: "http://127.0.0.1:{port}/v1"}}}}}}}}
models: {{{{one: {{{{upstream: raw}}}}}}}}
routes: {{{{auto: {{{{candidates: [one], router: null}}}}}}}}
"""
Answering = Callable[[int, int], bytes | None]
"""From the connection's number and the request's number on it to the answer; None breaks off."""


class RawUpstream:
    """A server on bare sockets that counts what it has read."""

    def __init__(self, answering: Answering, *, reset: bool, closes: int) -> None:
        self.connections = 0
        self.requests = 0
        self._answering = answering
        self._reset = reset
        self._closes = closes
        """The connection that closes itself, unread, at its second request."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection, place = self.connections, 0
        try:
            while not (place and connection == self._closes and await reader.read(1)):
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length))
                self.requests += 1
                answer = self._answering(connection, place)
                if answer is None:
                    break
                writer.write(answer)
                place += 1
        except asyncio.IncompleteReadError:
            pass
        finally:
            if self._reset:
                linger = struct.pack("ii", 1, 0)
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.close()


@asynccontextmanager
async def raw_upstream(
    gateway: Serve, answering: Answering, *, reset: bool = False, closes: int = 0
) -> AsyncIterator[tuple[RawUpstream, Gateway]]:
    upstream = RawUpstream(answering, reset=reset, closes=closes)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield upstream, await asyncio.to_thread(gateway, CONFIG.format(port=port))


@pytest.mark.parametrize("reset", [False, True])
async def test_a_new_connection_that_breaks_is_not_asked_again(gateway: Serve, reset: bool) -> None:
    """The request was read, so the provider may have worked, and charged, for it."""
    async with raw_upstream(gateway, lambda *_: None, reset=reset) as (upstream, one):
        answer = await asyncio.to_thread(one.chat)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_cut")
        assert upstream.requests == 1


@pytest.mark.parametrize("reset", [False, True])
async def test_a_kept_connection_that_is_found_closed_is_nobodys_failure(
    gateway: Serve, reset: bool
) -> None:
    """The first connection answers once and is closed as the second request is on its way."""

    async with raw_upstream(gateway, lambda *_: ANSWER, reset=reset, closes=1) as (upstream, one):
        for _ in range(3):
            assert (await asyncio.to_thread(one.chat)).status_code == 200
        assert (upstream.connections, upstream.requests) == (2, 3)


async def test_connections_are_kept(gateway: Serve) -> None:
    async with raw_upstream(gateway, lambda *_: ANSWER) as (upstream, one):
        for _ in range(5):
            assert (await asyncio.to_thread(one.chat)).status_code == 200
        assert upstream.connections == 1
