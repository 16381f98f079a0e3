"""Upstreams over HTTP/1.1: a request out, an answer in, and every failure as one of our errors.

The client is small and our own, for what a general one costs a request (docs/decisions/
0010-transport.md). What it leaves out, such as redirects, cookies and retries, a gateway must not
do, or does elsewhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Iterator, Mapping
from typing import TypeVar

from yarl import URL

from app.delivery.upstreams.base import Timeouts
from app.delivery.upstreams.connection import Broken, Connection, Incoming, NotHTTP, Origin
from app.delivery.upstreams.connections import Connections
from app.delivery.upstreams.place import place_of
from app.delivery.upstreams.unpacking import BadlyPacked, Inflating, unpacking
from app.errors import (
    ConnectFailed,
    MalformedReply,
    StaleConnection,
    UpstreamCut,
    UpstreamError,
    UpstreamTimeout,
)
from app.exchange.trace import outgoing

MAX_REPLY_BYTES = 64 * 1024 * 1024
"""Of an answer that is not streamed, once inflated: images and audio of several choices fit."""
_STALE_SECONDS = 0.15
"""A kept connection that breaks later than this after sending may have delivered the request."""
_DRAIN_SECONDS = 1.0
_SECRET_CHARACTERS = 8
_LENGTH_DIGITS = 20
"""Of a length that is written with more, all but zeros, the body is read like one without."""
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
T = TypeVar("T")
_FAULTS = (Broken, NotHTTP, BadlyPacked, TimeoutError)


class HTTPClient:
    """The connections that all upstreams share; open while its context is."""

    def __init__(self) -> None:
        self.connections = Connections()

    async def __aenter__(self) -> HTTPClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connections.close()


class HTTPUpstream:
    """A provider at a base URL, with its own credentials."""

    def __init__(
        self,
        name: str,
        base_url: str,
        credentials: Mapping[str, str],
        timeouts: Timeouts,
        client: HTTPClient,
        *,
        stream_usage: bool = True,
        provider: str | None = None,
    ) -> None:
        """`credentials` are headers sent with every request and never told to anyone. `provider`
        is what traces call it, where its address does not tell."""
        self.name = name
        self.stream_usage = stream_usage
        self.timeouts = timeouts
        self.client = client
        self.place = place_of(base_url, provider)
        url = URL(base_url)
        self._origin = Origin(url.scheme == "https", url.raw_host or "", url.port or 80)
        self._path = url.raw_path.rstrip("/")
        ours = {
            "Host": url.host_port_subcomponent or "",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "identity",
            "User-Agent": "pointsman",
        }
        # By names in any case: a header sent twice is refused by some.
        sent = {name.lower(): (name, value) for name, value in {**ours, **credentials}.items()}
        self._headers = dict(sent.values())
        self._secrets = tuple(
            secret.encode()
            for value in credentials.values()
            if len(secret := value.removeprefix("Bearer ")) >= _SECRET_CHARACTERS
        )
        self._heads: dict[str, bytes] = {}
        """Request line and headers by path, but for what is different each time."""

    async def post(self, path: str, body: bytes, timeouts: Timeouts | None = None) -> HTTPAnswer:
        times = self.timeouts if timeouts is None else timeouts
        loop = asyncio.get_running_loop()
        started = loop.time()
        head = self._head(path, len(body))
        connection = self.client.connections.take(self._origin)
        if connection is None:
            connection = await self._connected(times)
        served = connection.served
        answer = HTTPAnswer(self, connection.send(head, body, loop), started, times, loop)
        try:
            await answer.arrive()
        except UpstreamCut as error:
            stale = served and not connection.was_heard
            if stale and loop.time() - started < _STALE_SECONDS:
                raise StaleConnection(error.message) from error
            raise
        return answer

    def mentions_secret(self, body: bytes) -> bool:
        return any(secret in body for secret in self._secrets)

    async def _connected(self, times: Timeouts) -> Connection:
        """Raises ConnectFailed; UpstreamTimeout where even the answer should have come by then."""
        limit = min(times.first_byte, times.total)
        try:
            async with asyncio.timeout(min(times.connect, limit)):
                return await self.client.connections.connect(self._origin)
        except TimeoutError as error:
            if limit < times.connect:
                raise self.translated(error) from error
            raise ConnectFailed(f"Upstream `{self.name}` can't be reached.") from error
        except (OSError, UnicodeError) as error:
            raise ConnectFailed(f"Upstream `{self.name}` can't be reached.") from error

    def _head(self, path: str, length: int) -> bytes:
        """All before the body. Raises ConnectFailed for a header that can't be sent."""
        head = self._heads.get(path)
        if head is None:
            line = f"POST {self._path}{path} HTTP/1.1\r\n".encode("ascii")
            head = self._heads[path] = line + self._lines(self._headers)
        more = self._lines(sent) if (sent := outgoing.get()) else b""
        return b"%bContent-Length: %d\r\n%b\r\n" % (head, length, more)

    def _lines(self, headers: Mapping[str, str]) -> bytes:
        for name, value in headers.items():
            if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
                raise ConnectFailed(f"Upstream `{self.name}` has no usable headers.")
        return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()

    def translated(self, error: BaseException) -> UpstreamError:
        """Our error for what went wrong; neither addresses nor the system's wording go to
        clients."""
        match error:
            case TimeoutError():
                return UpstreamTimeout(f"Upstream `{self.name}` did not answer in time.")
            case NotHTTP() | BadlyPacked():
                return MalformedReply(f"Upstream `{self.name}` does not speak HTTP as it should.")
        return UpstreamCut(f"Upstream `{self.name}` broke the connection.")


class HTTPAnswer:
    """An answer over HTTP; its head and its body are waited for within the times of its attempt."""

    __slots__ = ("_begun", "_came", "_first_by", "_idle", "_incoming", "_loop", "_pieces",
                 "_timer", "_unpacking", "_until", "_upstream", "deadline", "headers",
                 "status")  # fmt: skip

    def __init__(
        self,
        upstream: HTTPUpstream,
        incoming: Incoming,
        started: float,
        timeouts: Timeouts,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._upstream, self._incoming, self._loop = upstream, incoming, loop
        self._first_by = self._until = started + timeouts.first_byte
        self._idle = timeouts.idle
        self._begun = False
        self._timer: asyncio.TimerHandle | None = None
        self._came: int | None = None
        """Bytes that had come when a body that is read in one was last looked after."""
        self._unpacking: Inflating | None = None
        self._pieces: Iterator[bytes] = iter(())
        self.deadline = started + timeouts.total
        self.status = 0
        self.headers: Mapping[str, str] = {}

    async def arrive(self) -> None:
        """Wait for the head. Raises UpstreamTimeout, UpstreamCut or MalformedReply."""
        self._watch()
        try:
            await self._within(self._incoming.head())
            self.status, self.headers = self._incoming.status, self._incoming.headers
            packed = self.headers.get("content-encoding")
            if packed and packed.strip().lower() != "identity":
                self._unpacking = unpacking(packed)
        except BadlyPacked as error:
            self.close()
            raise self._upstream.translated(error) from error
        except BaseException:
            self.close()  # also if it was cancelled
            raise

    def begin(self) -> None:
        self._begun = True

    async def read(self, most: int = MAX_REPLY_BYTES) -> bytes:
        self.begin()
        # What is compressed, though that was not asked for, is larger than it says.
        declared = self.headers.get("content-length") if self._unpacking is None else None
        if declared is not None and len(declared) < _LENGTH_DIGITS and int(declared) <= most:
            self._until = self._loop.time() + self._idle
            self._came = self._incoming.came
            body = await self._within(self._incoming.whole())
            # A timer left running would hold the whole answer until it fires.
            self._stop_watch()
            return body
        parts, size = [], 0
        while block := await self.block():
            parts.append(block)
            size += len(block)
            if size > most:
                raise MalformedReply(f"Upstream `{self._upstream.name}` sent too large an answer.")
        return b"".join(parts)

    async def block(self) -> bytes:
        self._until = self._loop.time() + self._idle if self._begun else self._first_by
        reading = self._incoming.block() if self._unpacking is None else self._unpacked()
        block = await self._within(reading)
        # While the client takes its time with the block, the upstream is not idle.
        self._until = self.deadline
        if not block:
            self._stop_watch()
        return block

    async def _unpacked(self) -> bytes:
        assert self._unpacking is not None
        while True:
            if piece := next(self._pieces, b""):
                return piece
            data = await self._incoming.block()
            if not data:
                self._unpacking.end()
                return b""
            self._pieces = self._unpacking.pieces(data)

    async def _within(self, reading: Awaitable[T]) -> T:
        """Read, until `_until` or the deadline has passed.

        One timer serves the whole answer and looks at `_until` when it fires: a timeout around
        every read would cost more than the read.
        """
        try:
            return await reading
        except _FAULTS as error:
            self.close()
            raise self._upstream.translated(error) from error

    def _watch(self) -> None:
        incoming, now = self._incoming, self._loop.time()
        if self._came is not None and self._came < incoming.came:
            # Nobody hears of each piece, but between two looks something has come.
            self._came, self._until = incoming.came, now + self._idle
        until = min(self._until, self.deadline)
        if now >= until:
            incoming.fail(TimeoutError())
            return
        # No later than the idle time from now: `_until` may come nearer meanwhile.
        self._timer = self._loop.call_later(min(until - now, self._idle), self._watch)

    def _stop_watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def finish(self) -> None:
        self._stop_watch()
        self._incoming.discard(_DRAIN_SECONDS)

    def close(self) -> None:
        self._stop_watch()
        self._incoming.close()
