"""Upstreams over HTTP, by aiohttp: one shared client, its errors translated at this door.

aiohttp rather than httpx: measured, httpx costs ten times the rest of the gateway together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from app.delivery.upstreams.base import Timeouts
from app.delivery.upstreams.place import place_of
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
_READ_BUFFER_BYTES = 256 * 1024
_STALE_SECONDS = 0.15
"""A kept connection that breaks later than this after sending may have delivered the request."""
_DRAIN_SECONDS = 1.0
_SECRET_CHARACTERS = 8

_reused: ContextVar[bool] = ContextVar("reused", default=False)
"""Whether the connection that this task got last had served before."""


class _Connector(aiohttp.TCPConnector):
    """Notes whether a connection is new: aiohttp's errors do not say."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[asyncio.Protocol] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        _reused.set(False)
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        if protocol is not None:
            _reused.set(protocol in self._used)
            self._used.add(protocol)
        return connection


class HTTPClient:
    """The one HTTP client that all upstreams share; open while its context is."""

    session: aiohttp.ClientSession

    def __init__(self) -> None:
        # The event loop itself holds tasks only weakly.
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> HTTPClient:
        self.session = aiohttp.ClientSession(
            connector=_Connector(limit=0, ttl_dns_cache=60, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Deadlines are kept per upstream, by HTTPUpstream.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            skip_auto_headers=("Accept-Encoding", "User-Agent", "Accept"),
            read_bufsize=_READ_BUFFER_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something to its end that nobody waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


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
        self._base_url = base_url.rstrip("/")
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "identity",
            "User-Agent": "pointsman",
            **credentials,
        }
        self._secrets = tuple(
            secret.encode()
            for value in credentials.values()
            if len(secret := value.removeprefix("Bearer ")) >= _SECRET_CHARACTERS
        )
        self._limits = aiohttp.ClientTimeout(total=None, connect=timeouts.connect)
        self._urls: dict[str, URL] = {}

    async def post(self, path: str, body: bytes, timeouts: Timeouts | None = None) -> HTTPAnswer:
        started = asyncio.get_running_loop().time()
        limits = self._limits
        if timeouts is None:
            timeouts = self.timeouts
        elif timeouts.connect != self.timeouts.connect:
            limits = aiohttp.ClientTimeout(total=None, connect=timeouts.connect)
        try:
            # aiohttp's own total timeout would also cover the body of a stream.
            async with asyncio.timeout(min(timeouts.first_byte, timeouts.total)):
                response = await self.client.session.post(
                    self._url(path),
                    data=body,
                    headers={**self._headers, **sent}
                    if (sent := outgoing.get())
                    else self._headers,
                    allow_redirects=False,
                    timeout=limits,
                )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            waited = asyncio.get_running_loop().time() - started
            if _reused.get() and waited < _STALE_SECONDS and _is_break(error):
                raise StaleConnection(f"Upstream `{self.name}` broke the connection.") from error
            raise self.translated(error) from error
        return HTTPAnswer(self, response, started, timeouts)

    def mentions_secret(self, body: bytes) -> bool:
        return any(secret in body for secret in self._secrets)

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self._base_url + path)
        return url

    def translated(self, error: Exception) -> UpstreamError:
        """Our error for one of aiohttp's or the system's; neither addresses nor the library's
        wording go to clients."""
        match error:
            case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                return ConnectFailed(f"Upstream `{self.name}` can't be reached.")
            case TimeoutError():
                return UpstreamTimeout(f"Upstream `{self.name}` did not answer in time.")
            case aiohttp.InvalidURL() | aiohttp.ClientResponseError():
                return MalformedReply(f"Upstream `{self.name}` does not speak HTTP as it should.")
            case ValueError():
                return ConnectFailed(f"Upstream `{self.name}` has no usable address or headers.")
        return UpstreamCut(f"Upstream `{self.name}` broke the connection.")


def _is_break(error: Exception) -> bool:
    if isinstance(error, aiohttp.ClientConnectorError):
        return False
    return isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)


class HTTPAnswer:
    """An answer over HTTP; its body is read within the times of its attempt."""

    __slots__ = ("_begun", "_first_by", "_idle", "_received", "_response", "_timer", "_until",
                 "_upstream", "deadline", "headers", "status")  # fmt: skip

    def __init__(
        self,
        upstream: HTTPUpstream,
        response: aiohttp.ClientResponse,
        started: float,
        timeouts: Timeouts,
    ) -> None:
        self._upstream = upstream
        self._response = response
        self._first_by = started + timeouts.first_byte
        self._idle = timeouts.idle
        self._begun = False
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        self._received: int | None = None
        """Bytes that had come when a body that is read in one was last looked after."""
        self.deadline = started + timeouts.total
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    def begin(self) -> None:
        self._begun = True

    async def read(self, most: int = MAX_REPLY_BYTES) -> bytes:
        self.begin()
        declared = self._response.content_length
        # What is compressed, though that was not asked for, is larger than it says.
        plain = "Content-Encoding" not in self.headers
        if plain and declared is not None and declared <= most:
            self._until = asyncio.get_running_loop().time() + self._idle
            self._received = self._response.content.total_bytes
            body = await self._within(self._response.read())
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
        if self._begun:
            self._until = asyncio.get_running_loop().time() + self._idle
        else:
            self._until = self._first_by
        block = await self._within(self._response.content.readany())
        # While the client takes its time with the block, the upstream is not idle.
        self._until = self.deadline
        return block

    async def _within(self, reading: Awaitable[bytes]) -> bytes:
        """Read, and break off when `_until` or the deadline has passed.

        One timer serves the whole answer and looks at `_until` when it fires: a timeout around
        every read would cost more than the read.
        """
        if self._timer is None:
            self._watch()
        try:
            block = await reading
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.close()
            raise self._upstream.translated(error) from error
        if not block:
            self._stop_watch()
        return block

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._received is not None and self._received < self._response.content.total_bytes:
            # Nobody hears of each piece, but between two looks something has come.
            self._received, self._until = self._response.content.total_bytes, now + self._idle
        until = min(self._until, self.deadline)
        if now >= until:
            self._response.content.set_exception(TimeoutError())
            return
        # No later than the idle time from now: `_until` may come nearer meanwhile.
        after = min(until - now, self._idle)
        self._timer = loop.call_later(after, self._watch)

    def _stop_watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def finish(self) -> None:
        self._stop_watch()
        if not self._response.content.is_eof():
            self._upstream.client.in_background(self._drained())

    async def _drained(self) -> None:
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await self._response.content.readany():
                    pass
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.close()

    def close(self) -> None:
        self._stop_watch()
        self._response.close()
