"""uvicorn's HTTP/1.1 protocol with bounds on a request's head, which uvicorn leaves open.

A client that sends its headers too slowly or without end is refused in the envelope and its
connection closed; nobody else notices. Bounds on the body are kept in `api.wire`.
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.serving import Serving
from app.api.wire import new_request_id
from app.wire.openai_chat import error_body

MAX_HEAD_BYTES = 64 * 1024
_DEFAULT_HEADER_SECONDS = 10.0
_LINGER_SECONDS = 2.0
_REST_SECONDS = 10.0
_LINGER_BYTES = 64 * 1024 * 1024


_UPGRADE = re.compile(rb"(?i)\r\nupgrade:(?=[^\r\n]*(?:\r\n|$))")


def _without_upgrade(data: bytes) -> bytes:
    """Take away the offer to upgrade, which a server may ignore.

    Java's HTTP client offers h2c with every request; the parser would stop at the head and drop
    the body that follows.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nx-upgrade-ignored:", head) + end + body


class BoundedProtocol(HttpToolsProtocol):
    """Reads its time limits from the configuration in service (`serving`, of the lifespan)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (serving := self.app_state.get("serving")) is not None:
            self.timeout_keep_alive = serving.active.config.server.keep_alive_seconds
        self._head_pending = True
        self._head_bytes = 0
        self._in_body = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._discarded = 0
        self._refusal = (400, "caller_invalid_http", "This is not a valid HTTP request.")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_rest_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._discard(data)
            return
        if not self._in_body and b"pgrade" in data:
            data = _without_upgrade(data)
        if self._in_body and self.cycle.response_complete:
            self._discard(data)  # counted; the parser throws it away
        super().data_received(data)
        if not self._head_pending or self._refused or self.parser is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
            self.send_400_response("")
        elif self._head_timer is None:
            self._start_head_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() or not (self._in_body and self.cycle.response_complete):
            return
        # Answered before the body was whole, which nobody reads any more. Whoever is in the middle
        # of sending it sees the answer only if the rest is taken, for a while; who waits to be
        # asked for it need not send it.
        if self.expect_100_continue:
            self.transport.close()
        else:
            self._rest_timer = self.loop.call_later(_REST_SECONDS, self.transport.close)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._discarded = 0
        self._stop_rest_timer()
        super().on_message_complete()

    def on_message_begin(self) -> None:
        self._head_pending = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_pending = False
        self._in_body = True
        self._head_bytes = 0
        self._stop_head_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            self._refuse_head()
            raise ValueError("head too large")  # the parser turns it into send_400_response
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse in the envelope; uvicorn calls this for what is not HTTP."""
        status, code, message = self._refusal
        body = error_body(message, "invalid_request_error", None, code)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n"
            f"x-pointsman-request-id: {new_request_id()}\r\n"
            "connection: close\r\n\r\n"
        )
        self._refused = True
        self.transport.write(head.encode() + body)
        # Closing at once would reset the connection under what the client is still sending, and
        # the client would never read the answer.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > _LINGER_BYTES:
            self.transport.abort()

    def _refuse_head(self) -> None:
        message = f"The request's headers are larger than {MAX_HEAD_BYTES} bytes."
        self._refusal = (431, "caller_headers_too_large", message)

    def _start_head_timer(self) -> None:
        serving: Serving | None = self.app_state.get("serving")
        seconds = _DEFAULT_HEADER_SECONDS
        if serving is not None:
            seconds = serving.active.config.server.header_timeout_seconds
        self._head_timer = self.loop.call_later(seconds, self._head_too_slow)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_rest_timer(self) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or self._refused:
            return
        if not self._head_bytes:
            self.transport.close()  # connected and said nothing: there is nothing to answer
            return
        message = "The request's headers did not arrive in time."
        self._refusal = (408, "caller_headers_too_slow", message)
        self.send_400_response("")
