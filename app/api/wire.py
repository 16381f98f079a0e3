"""HTTP as the hot doors need it, straight on ASGI: reading a body, sending a reply.

FastAPI keeps the doors that people configure and read; a chat request passes through here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from starlette.types import Receive, Scope, Send

from app.errors import BodyTooLarge, BodyTooSlow, GatewayError
from app.exchange.reply import Headers, Reply, StreamReply
from app.wire.openai_chat import error_body

_CLOSE = [("connection", "close")]
_READER_GRACE_SECONDS = 1.0
_DRAIN_FACTOR = 4
"""How many times the limit is read and thrown away before the connection is given up."""


def new_request_id() -> str:
    return f"req_{os.urandom(12).hex()}"


def header(scope: Scope, name: bytes) -> str | None:
    """A request header by its lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None


class ClientGone(Exception):
    """The client hung up before its request was whole; there is nobody to answer."""


async def read_body(receive: Receive, *, limit: int, seconds: float) -> bytes:
    """The whole body. Raises BodyTooLarge, BodyTooSlow or ClientGone.

    A body over the limit is read on and thrown away for a while: a client that is still sending
    would otherwise see a broken connection and not the answer.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part = message.get("body", b"")
                more = message.get("more_body", False)
                if not more and not parts:
                    parts.append(part)
                    size += len(part)
                    break
                size += len(part)
                if size <= limit:
                    parts.append(part)
                if not more or size > limit * _DRAIN_FACTOR:
                    break
    except TimeoutError:
        raise BodyTooSlow(
            f"The body did not arrive within {seconds:g} seconds.", headers=_CLOSE
        ) from None
    if size > limit:
        raise BodyTooLarge(
            f"The body is larger than {limit} bytes, the limit `server.max_body_bytes`.",
            headers=_CLOSE,
        )
    return parts[0] if len(parts) == 1 else b"".join(parts)


@contextmanager
def hang_up_cancels(receive: Receive) -> Iterator[None]:
    """Cancel the current task when the client goes away."""
    task = cast("asyncio.Task[None]", asyncio.current_task())
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.get_running_loop().create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise  # the server is stopping
        task.uncancel()
    finally:
        watcher.cancel()


async def send_reply(send: Send, reply: Reply) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [
                (b"content-type", reply.content_type.encode()),
                (b"content-length", str(len(reply.body)).encode()),
                *_encoded(reply.headers),
            ],
        }
    )
    await send({"type": "http.response.body", "body": reply.body})


async def send_stream(send: Send, reply: StreamReply) -> None:
    """Send events as they come; a slow client slows the reading from the upstream.

    A client that stops reading is given up shortly after the upstream's total time: by then the
    relay has said its last word, and only the client can be late.
    """
    start = {
        "type": "http.response.start",
        "status": reply.status,
        "headers": [
            (b"content-type", reply.content_type.encode()),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *_encoded(reply.headers),
        ],
    }
    deadline = reply.deadline
    try:
        async with asyncio.timeout_at(_until(deadline)) as patience:
            await send(start)
            async for block in reply.events:
                if reply.deadline != deadline:
                    deadline = reply.deadline
                    patience.reschedule(_until(deadline))
                await send({"type": "http.response.body", "body": block, "more_body": True})
    except TimeoutError:
        return  # the server drops a connection whose answer was left unfinished
    finally:
        reply.close()
    await send({"type": "http.response.body", "body": b""})


def _until(deadline: float | None) -> float | None:
    return None if deadline is None else deadline + _READER_GRACE_SECONDS


def refusal(error: GatewayError) -> Reply:
    """An error in OpenAI's envelope."""
    body = error_body(error.message, error.type, error.param, error.code)
    return Reply(error.status, body, headers=[*error.headers])


def _encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
