"""Upstreams over HTTP, by aiohttp: one shared client, its errors translated at this door.

aiohttp rather than httpx: measured, httpx costs ten times the rest of the gateway together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from app.delivery.upstreams.base import Timeouts
from app.errors import ConnectFailed, MalformedReply, UpstreamCut, UpstreamError, UpstreamTimeout

MAX_REPLY_BYTES = 256 * 1024 * 1024
_READ_BUFFER_BYTES = 256 * 1024

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


class HTTPUpstream:
    """A provider at a base URL, with its own credentials."""

    def __init__(
        self,
        name: str,
        base_url: str,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        client: HTTPClient,
        *,
        stream_usage: bool = True,
    ) -> None:
        self.name = name
        self.stream_usage = stream_usage
        self._base_url = base_url.rstrip("/")
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "identity",
            "User-Agent": "pointsman",
            **headers,
        }
        self._timeouts = timeouts
        self._client = client
        self._limits = aiohttp.ClientTimeout(total=None, connect=timeouts.connect)
        self._urls: dict[str, URL] = {}

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> HTTPAnswer:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            # aiohttp's own total timeout would also cover the body of a stream.
            async with asyncio.timeout(self._timeouts.first_byte):
                try:
                    response = await self._send(path, body, headers)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    # A pooled connection that the server had closed in the meantime has delivered
                    # nothing; only then is sending again safe.
                    if not _reused.get():
                        raise
                    response = await self._send(path, body, headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self.translated(error) from error
        return HTTPAnswer(self, response, self._timeouts.idle, started + self._timeouts.total)

    async def _send(
        self, path: str, body: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        return await self._client.session.post(
            self._url(path),
            data=body,
            headers={**headers, **self._headers},
            allow_redirects=False,
            timeout=self._limits,
        )

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self._base_url + path)
        return url

    def translated(self, error: Exception) -> UpstreamError:
        """Our error for one of aiohttp's or the system's."""
        # Neither addresses nor the library's wording go to clients.
        match error:
            case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                return ConnectFailed(f"Upstream `{self.name}` can't be reached.")
            case TimeoutError():
                return UpstreamTimeout(f"Upstream `{self.name}` did not answer in time.")
            case aiohttp.InvalidURL() | aiohttp.ClientResponseError():
                return MalformedReply(f"Upstream `{self.name}` does not speak HTTP as it should.")
        return UpstreamCut(f"Upstream `{self.name}` broke the connection.")


class HTTPAnswer:
    """An answer over HTTP; its body is read within the idle and total time of its upstream."""

    __slots__ = ("_deadline", "_idle", "_response", "_upstream", "headers", "status")

    def __init__(
        self,
        upstream: HTTPUpstream,
        response: aiohttp.ClientResponse,
        idle: float,
        deadline: float,
    ) -> None:
        self._upstream = upstream
        self._response = response
        self._idle = idle
        self._deadline = deadline
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self) -> bytes:
        declared = self._response.content_length
        if declared is not None and declared <= MAX_REPLY_BYTES:
            return await self._within(self._response.read(), self._deadline)
        parts, size = [], 0
        async for block in self.blocks():
            parts.append(block)
            size += len(block)
            if size > MAX_REPLY_BYTES:
                raise MalformedReply(f"Upstream `{self._upstream.name}` sent too large an answer.")
        return b"".join(parts)

    async def blocks(self) -> AsyncIterator[bytes]:
        content = self._response.content
        loop = asyncio.get_running_loop()
        while True:
            limit = min(loop.time() + self._idle, self._deadline)
            block = await self._within(content.readany(), limit)
            if not block:
                return
            yield block

    async def _within(self, reading: Awaitable[bytes], when: float) -> bytes:
        try:
            async with asyncio.timeout_at(when):
                return await reading
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.close()
            raise self._upstream.translated(error) from error

    def close(self) -> None:
        self._response.close()
