"""One HTTP/1.1 connection to an upstream, and the answer that comes in on it.

What is parsed is parsed by llhttp (httptools), the parser of Node; here is what must be decided
around it: whose bytes these are, when an answer is over, and whether the connection can serve
again. Whatever is odd ends the connection, so that no answer can take up what belongs to another.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import NamedTuple, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEAD_BYTES = 64 * 1024
"""Also of what comes after it without being body: chunk extensions and trailers."""
_BUFFER_BYTES = 256 * 1024
"""Of an answer that is read slower than it comes; the upstream has to wait then."""


class Origin(NamedTuple):
    """Where connections go; those to one origin can serve for each other."""

    secure: bool
    host: str
    port: int


class Broken(Exception):
    """The connection ended before the answer did."""


class NotHTTP(Exception):
    """What came in is no answer in HTTP/1.1."""


class Incoming:
    """An answer as it comes in. One reader; each of its methods may raise Broken, NotHTTP, or what
    it was told to `fail` with, after what had come before that has been read."""

    __slots__ = ("_blocks", "_connection", "_discarding", "_error", "_held", "_loop", "_waiter",
                 "_whole", "came", "complete", "headers", "status")  # fmt: skip

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        """0 until the head is there."""
        self.headers: dict[str, str] = {}
        """By names in lower case; of several of a name the first."""
        self.came = 0
        """Bytes of the body until now."""
        self.complete = False
        self._connection: Connection | None = connection
        self._loop = loop
        self._blocks: list[bytes] = []
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._whole = False
        self._discarding: asyncio.TimerHandle | None = None

    # --- the reader's side -------------------------------------------------------------------

    async def head(self) -> None:
        """Wait for status and headers."""
        while not self.status:
            await self._wait()

    async def block(self) -> bytes:
        """What has come of the body since the last time, b"" at its end."""
        while not self._blocks and not self.complete:
            await self._wait()
        return self._taken()

    async def whole(self) -> bytes:
        """All of the body that was not read yet."""
        self._whole = True  # nobody needs to be woken for each piece
        if self._connection is not None:
            self._connection.resume()
        while not self.complete:
            await self._wait()
        return self._taken()

    def discard(self, seconds: float) -> None:
        """Nothing more of it is wanted; the connection is given up if it does not end so soon."""
        connection = self._connection
        if connection is not None and self._discarding is None:
            self._blocks.clear()
            self._discarding = self._loop.call_later(seconds, connection.abort)
            connection.resume()

    def close(self) -> None:
        """Give the connection up, unless it is free already."""
        if self._connection is not None:
            self._connection.abort()

    def fail(self, error: BaseException) -> None:
        """Let the reader have an error."""
        if self._error is None and not self.complete:
            self._error = error
            self._wake()

    def _taken(self) -> bytes:
        blocks = self._blocks
        taken = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        blocks.clear()
        if self._held > _BUFFER_BYTES and self._connection is not None:
            self._connection.resume()
        self._held = 0
        return taken

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the connection's side ---------------------------------------------------------------

    def headed(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers
        self._wake()

    def add(self, data: bytes) -> None:
        """A piece of the body."""
        self.came += len(data)
        if self._discarding is not None:
            return
        self._blocks.append(data)
        if self._whole:
            return
        self._held += len(data)
        if self._held > _BUFFER_BYTES and self._connection is not None:
            self._connection.pause()
        self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """The connection is no more concerned with it."""
        self._connection = None
        if self._discarding is not None:
            self._discarding.cancel()
        if error is not None:
            self.fail(error)
            return
        self.complete = True
        self._wake()


class Connection(asyncio.Protocol):
    """Serves one request after the other. `on_free` is told when the next may come, `on_lost` when
    none may any more."""

    def __init__(
        self,
        origin: Origin,
        on_free: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self.origin = origin
        self.served = False
        """Whether an answer has come in on it before."""
        self.free_since = 0.0
        self._on_free, self._on_lost = on_free, on_lost
        self._transport: asyncio.Transport | None = None
        self._wire: asyncio.Transport | None = None
        """What lies below TLS, or the same. Reading is paused here and not above: TLS would lose
        what it holds back when the connection ends. And only here is known what was sent."""
        self._incoming: Incoming | None = None
        self._paused = False
        self._spoke_first = False
        self._begin()
        self._parser = HttpResponseParser(self)

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._passing = False
        self._until_closed = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def was_heard(self) -> bool:
        """Whether something has come since the last request; asked before its answer's body."""
        return self._head_bytes > 0

    def send(self, head: bytes, body: bytes, loop: asyncio.AbstractEventLoop) -> Incoming:
        """Send a request on a free connection."""
        incoming = self._incoming = Incoming(self, loop)
        self._begin()
        if self._spoke_first:
            self._fail(NotHTTP())
        elif self._transport is None:
            self._end(Broken())
        else:
            self._transport.writelines((head, body))
        return incoming

    def abort(self) -> None:
        """End it at once, also what is under way."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        wire = self._wire
        if not self._paused and wire is not None and not wire.is_closing():
            self._paused = True
            wire.pause_reading()

    def resume(self) -> None:
        wire = self._wire
        if self._paused and wire is not None and not wire.is_closing():
            self._paused = False
            wire.resume_reading()

    async def secure(self, tls: ssl.SSLContext, loop: asyncio.AbstractEventLoop) -> None:
        """Speak TLS from here on. Raises OSError."""
        wire = self._wire
        if wire is None or wire.is_closing():
            raise ConnectionResetError  # uvloop would log it as an error of its own
        # A name may be written with a dot at its end, a certificate's has none.
        name = self.origin.host.rstrip(".")
        try:
            secured = await loop.start_tls(wire, self, tls, server_hostname=name)
        except BaseException:
            wire.abort()
            raise
        if secured is None or self._wire is None:
            raise ConnectionResetError
        self._transport = secured

    # --- called by the event loop ------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._wire = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        incoming = self._incoming
        if incoming is None:
            self._spoke_first = True
            self.abort()
            return
        came = incoming.came
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._fail(NotHTTP())
            return
        if incoming.came > came:
            self._head_bytes = 0
        elif not incoming.complete:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._fail(NotHTTP())

    def eof_received(self) -> None:
        """The upstream has ended it; not called if it was reset, nor by uvloop if TLS was cut."""
        incoming = self._incoming
        if incoming is not None and incoming.status and self._until_closed:
            self._end(None)  # an answer without a length ends with its connection
        else:
            self._end(Broken())
        # Else it would be kept until all of the request was sent. Not at once: TLS is in the midst
        # of its own end.
        asyncio.get_running_loop().call_soon(self.abort)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = self._wire = None
        self._end(Broken())
        self._on_lost(self)

    def _end(self, error: Exception | None) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.end(error)

    def _fail(self, error: Exception) -> None:
        self._end(error)
        self.abort()

    # --- called by the parser ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._incoming is None:
            self.abort()  # there is more than was asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        incoming = self._incoming
        if incoming is not None and not incoming.status:  # else it is a trailer
            self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, {}
        self._passing = 100 <= status < 200
        if status < 100:
            self._fail(NotHTTP())
        elif self._incoming is not None and not self._passing:
            self._until_closed = not headers.keys() & {"content-length", "transfer-encoding"}
            self._incoming.headed(status, headers)

    def on_body(self, data: bytes) -> None:
        if self._passing:
            self._fail(NotHTTP())  # it would be taken for the beginning of the answer's
        elif self._incoming is not None:
            self._incoming.add(data)

    def on_message_complete(self) -> None:
        if self._passing:  # "100 Continue" and the like: the answer is yet to come
            self._passing = False
            return
        incoming, self._incoming = self._incoming, None
        transport, wire = self._transport, self._wire
        if incoming is None or transport is None or wire is None:
            return
        self.resume()
        incoming.end()
        self.served = True
        if transport.get_write_buffer_size() or wire.get_write_buffer_size():
            # Who answered before it had all of the request may read the rest of it as a request,
            # or never, and what is only closed is kept until then.
            transport.abort()
        elif self._parser.should_keep_alive():
            self._on_free(self)
        else:
            transport.close()
