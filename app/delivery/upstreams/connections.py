"""The connections to all upstreams: kept while they may be of use, and made where none is free."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

from aiohappyeyeballs import start_connection

from app.delivery.upstreams.connection import Connection, Origin

KEPT_SECONDS = 60.0
"""A connection that was not used for longer is closed: many servers do so themselves by then."""
_ADDRESS_SECONDS = 60.0
_NEXT_ADDRESS_SECONDS = 0.25
"""After so long the next address of a host is tried beside the first (RFC 8305)."""


class Connections:
    """Belongs to one event loop; has no bounds of its own, those are the deployments'."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._free: dict[Origin, list[Connection]] = {}
        """The latest used last, which is taken first."""
        self._addresses: dict[tuple[str, int], tuple[float, list[Any]]] = {}
        self._tls: ssl.SSLContext | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    def take(self, origin: Origin) -> Connection | None:
        """One that is free, if there is one."""
        free = self._free.get(origin)
        while free:
            connection = free.pop()
            if connection.is_open:
                return connection
        return None

    async def connect(self, origin: Origin) -> Connection:
        """A new one. Raises OSError, or UnicodeError for a host that can't be one."""
        loop = asyncio.get_running_loop()
        tls = await self._context() if origin.secure else None
        addresses = await self._resolved(origin.host, origin.port, loop)
        try:
            return await self._made(origin, addresses, tls, loop)
        except BaseException:
            # Also if the time was over: the host may be elsewhere by now.
            self._addresses.pop((origin.host, origin.port), None)
            raise

    async def _made(
        self,
        origin: Origin,
        addresses: list[Any],
        tls: ssl.SSLContext | None,
        loop: asyncio.AbstractEventLoop,
    ) -> Connection:
        # The library wants the addresses for itself.
        made = await start_connection(
            list(addresses), happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1, loop=loop
        )
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, connection = await loop.create_connection(
                lambda: Connection(origin, self._freed, self._lost),
                sock=made,
            )
            if tls is not None:
                await connection.secure(tls, loop)
        except BaseException:
            made.close()
            raise
        if connection.is_open:
            self._open.add(connection)
        return connection

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)  # they end in the loop's next round

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            # Reading the system's certificates takes tens of milliseconds.
            tls = await asyncio.to_thread(ssl.create_default_context)
            tls.set_alpn_protocols(["http/1.1"])
            self._tls = tls
        return self._tls

    async def _resolved(self, host: str, port: int, loop: asyncio.AbstractEventLoop) -> list[Any]:
        known = self._addresses.get((host, port))
        if known is not None and loop.time() - known[0] < _ADDRESS_SECONDS:
            return known[1]
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self._addresses[host, port] = (loop.time(), found)
        return found

    def _freed(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.free_since = loop.time()
        self._free.setdefault(connection.origin, []).append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(KEPT_SECONDS / 4, self._sweep)

    def _sweep(self) -> None:
        """Close those that were not used for long, the first of each list."""
        loop = asyncio.get_running_loop()
        before = loop.time() - KEPT_SECONDS
        for origin, free in list(self._free.items()):
            while free and free[0].free_since < before:
                free.pop(0).abort()
            if not free:
                del self._free[origin]
        self._sweeping = loop.call_later(KEPT_SECONDS / 4, self._sweep) if self._free else None

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        free = self._free.get(connection.origin)
        if free and connection in free:
            free.remove(connection)
