"""The wire under one answer: sending, waiting while the other side may leave, breaking off.

ASGI cannot reset a connection, so the protocol class here hands each request its transport.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.simulated.log import Exchange

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_FLUSH_MILLISECONDS = 1000
_RAW_BUFFER_BYTES = 256 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which also tells the application its transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Gone(Exception):
    """The client hung up."""


class Connection:
    """One answer on its way. Every wait ends with `Gone` as soon as the client hangs up."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        self._transport: asyncio.Transport = scope["state"]["transport"]
        self._receive = receive
        self._send = send
        self._exchange = exchange
        self._watch: asyncio.Future[Message] | None = None

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the head."""
        self._exchange.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, piece: bytes, more: bool = True) -> None:
        """Send a piece of the body; returns when the client has room for more. Raises Gone."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        if more and self._transport.is_closing():
            self._leave()
        self._exchange.bytes_sent += len(piece)

    async def write_raw(self, data: bytes) -> None:
        """Send bytes that uvicorn knows nothing of: then only breaking off is left. Raises Gone."""
        while self._transport.get_write_buffer_size() > _RAW_BUFFER_BYTES:
            await self.wait(0.001)
        if self._transport.is_closing():
            self._leave()
        self._transport.write(data)
        await asyncio.sleep(0)

    async def wait(self, seconds: float | None) -> None:
        """Sleep; None is for ever. Raises Gone."""
        if seconds == 0:
            return
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._receive())
        done, _ = await asyncio.wait([self._watch], timeout=seconds)
        if done:
            self._leave()

    async def reset(self) -> None:
        """Break the connection as a crash would: what was written arrives, then a reset."""
        await self._flush()
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
        await self._receive()

    async def close(self) -> None:
        """Close the connection in order, in the middle of whatever it was."""
        await self._flush()
        self._transport.close()
        await self._receive()

    async def _flush(self) -> None:
        for _ in range(_FLUSH_MILLISECONDS):
            if not self._transport.get_write_buffer_size():
                break
            await asyncio.sleep(0.001)

    def finish(self) -> None:
        """Stop watching for a hang-up: the answer is over."""
        self._exchange.finished_at = time.time()
        if self._watch is not None:
            self._watch.cancel()

    def _leave(self) -> None:
        self._exchange.disconnected_at = time.time()
        self._exchange.disconnected_monotonic = time.monotonic()
        raise Gone
