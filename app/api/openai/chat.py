"""`POST /v1/chat/completions`: bytes to the pipeline, its reply to the client."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter

from starlette.types import Receive, Scope, Send

from app.accounting.caller import ANONYMOUS
from app.api import wire
from app.api.access import Access
from app.api.asked import asked
from app.api.serving import Serving
from app.config.schema import Server
from app.delivery.drain import stopping
from app.delivery.gate import Gate
from app.errors import GatewayError, Overloaded
from app.exchange.reply import StreamReply
from app.exchange.request import Request
from app.pipeline import Heeded
from app.wire import openai_chat

_SESSION_HEADERS = (b"x-session-id", b"x-conversation-id", b"x-claude-code-session-id")


@dataclass(frozen=True, slots=True)
class ChatDoor:
    """A plain ASGI application."""

    serving: Serving
    access: Access
    gate: Gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, caller = perf_counter(), ANONYMOUS
        active = self.serving.active
        pipeline = active.pipeline
        try:
            # Before the body: who has no key can't make the gateway hold one.
            caller = await self.access.caller(scope)
            request = await read_request(
                scope, receive, active.config.server, started, reads=pipeline.reads
            )
        except GatewayError as error:
            traceparent = wire.header(scope, b"traceparent")
            refusal = pipeline.refuse(wire.new_request_id(), started, error, caller, traceparent)
            await wire.send_reply(send, refusal)
            return
        except wire.ClientGone:
            return
        except asyncio.CancelledError:
            if not pipeline.drain.over:
                raise
            await wire.send_reply(send, wire.refusal(stopping()))
            return
        reply = None
        try:
            with wire.hang_up_cancels(receive):
                try:
                    async with self.gate.place(len(request.body), request.seconds_left()):
                        reply = await pipeline.chat(request, caller)
                        if isinstance(reply, StreamReply):
                            await wire.send_stream(send, reply)
                        else:
                            await wire.send_reply(send, reply)
                except Overloaded as error:
                    refusal = pipeline.refuse(
                        request.id, started, error, caller, request.traceparent
                    )
                    await wire.send_reply(send, refusal)
        except asyncio.CancelledError:
            if not pipeline.drain.over:
                raise
            if reply is None:  # it waited at the gate
                refusal = pipeline.refuse(
                    request.id, started, stopping(), caller, request.traceparent
                )
                await wire.send_reply(send, refusal)
            # Else its client took its time: the connection is broken, which tells it.


async def read_request(
    scope: Scope,
    receive: Receive,
    limits: Server,
    started: float,
    *,
    reads: frozenset[Heeded] = frozenset(),
) -> Request:
    """A checked request, with those of its headers that somebody heeds. Raises CallerError or
    ClientGone."""
    terms = asked(scope)
    body = await wire.read_body(
        receive, limit=limits.max_body_bytes, seconds=limits.body_timeout_seconds
    )
    request = openai_chat.parse(
        body,
        request_id=wire.new_request_id(),
        started=started,
        received=perf_counter(),
        max_images=limits.max_images,
        debug=(wire.header(scope, b"x-pointsman-debug") or "").lower() == "true",
        session=_session(scope) if "session" in reads else None,
        cache_control=wire.header(scope, b"cache-control") if "cache-control" in reads else None,
        traceparent=wire.header(scope, b"traceparent"),
    )
    request.asked = terms
    return request


def _session(scope: Scope) -> str | None:
    """The conversation that a client names; an empty name is none."""
    found = {name: value.strip() for name, value in scope["headers"] if name in _SESSION_HEADERS}
    named = (found.get(name) for name in _SESSION_HEADERS) if found else ()
    return next((name.decode("latin-1") for name in named if name), None)
