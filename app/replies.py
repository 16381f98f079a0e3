"""How an answer goes back: whole, as a stream, late, from the cache, or as a refusal.

Whichever it is, the request is settled once, when its reply has ended, and who is to hear of an
answer that went well is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from app.accounting.settlement import Settlement
from app.catalog.model import Model
from app.delivery.attempt import Opened, Whole
from app.delivery.cache.answers import Place
from app.delivery.cache.replay import Hit
from app.delivery.continuation import Continuing, Relaying, is_plain
from app.delivery.drain import Drain
from app.delivery.relay import Relay
from app.delivery.waiting import Waiting
from app.errors import GatewayError, GatewayFault, GatewayStopping, UpstreamRefusedRequest
from app.exchange.headers import headers
from app.exchange.record import HEDGED_AWAY, Record
from app.exchange.reply import Headers, Reply, StreamReply
from app.exchange.request import Request
from app.routing.conversation.affinity import Conversation
from app.routing.decision import Decision
from app.telemetry.logs import log
from app.telemetry.metrics import CLIENT_CLOSED
from app.wire import sse
from app.wire.openai_chat import error_body, read_error

_REPLAY_SECONDS = 600.0
"""For a client to take a stream that is there already."""

Delivering = Callable[[Request, tuple[Model, ...], Record, Decision], Awaitable[Whole | Opened]]
"""Carries out a plan; for a stream that goes on elsewhere."""


@dataclass(slots=True)
class Replies:
    """The reply to one request. `place` is its answer's in the cache, and `talk` the conversation
    that it belongs to, where there are such; with the decision they come to be known on its way.
    A stream that waits says so every `comment_seconds`."""

    request: Request
    record: Record
    settlement: Settlement
    drain: Drain
    deliver: Delivering
    comment_seconds: float | None = None
    decision: Decision | None = None
    place: Place | None = None
    talk: Conversation | None = None

    def answered(self, result: Whole | Opened) -> Reply | StreamReply:
        """What was delivered, to be handed on."""
        if isinstance(result, Opened):
            relay = self._relay(result)
            reply = StreamReply(relay.events(), relay.close, None, self._headers())
            _keep_to(relay, reply)
            return reply
        self._settle("ok", 200)
        if self.place is not None:
            self.place.keep("whole", result.body, self.record)
        if self.talk is not None:
            self.talk.served(self.record)
        return Reply(200, result.body, headers=self._headers())

    def late(self, delivery: asyncio.Task[Any], comment_seconds: float) -> StreamReply:
        """A stream whose first event is late: it begins with comments, and without the headers
        that say who serves it."""

        def began(opened: Opened) -> Relaying:
            relay = self._relay(opened)
            _keep_to(relay, reply)
            return relay

        def failed(error: Exception) -> bytes:
            return sse.event(self.refused(error).body)

        def gone() -> None:
            if self.drain.over:
                self._settle(GatewayStopping.outcome, 200)
            else:
                self.left()

        waiting = Waiting(
            delivery, comment_seconds, began=began, failed=failed, gone=gone, drain=self.drain
        )
        reply = StreamReply(waiting.events(), waiting.close, None, self._headers())
        return reply

    def again(self, hit: Hit) -> Reply | StreamReply:
        """An answer from the cache."""
        self.settlement.settle(self.record, hit, "ok", 200)
        if not self.request.stream:
            return Reply(200, hit.body, headers=self._headers())
        until = asyncio.get_running_loop().time() + _REPLAY_SECONDS
        return StreamReply(hit.events(), _nothing_to_close, until, self._headers())

    def refused(self, error: Exception) -> Reply:
        """What a client is told of an error: all of ours, and nothing of a bug."""
        if not isinstance(error, GatewayError):
            log.exception("request %s failed inside the gateway", self.request.id, exc_info=error)
            error = GatewayFault("Internal error.")
        return refused(self.settlement, self.record, error, self.decision, debug=self.request.debug)

    def left(self) -> None:
        """The client went away before there was a reply."""
        self._settle("client_gone", CLIENT_CLOSED)

    # --- streams ------------------------------------------------------------------------------

    def _relay(self, opened: Opened) -> Relaying:
        self.record.first_token_seconds = perf_counter() - self.request.received
        relay: Relaying
        if self.decision and self.decision.terms.continues and is_plain(self.request.payload):
            relay = Continuing(
                self.request,
                opened,
                partial(self._go_on, self.decision),
                noted=self._note,
                ended=partial(self._ended, opened),
                comment_seconds=self.comment_seconds,
                drain=self.drain,
            )
        else:
            relay = Relay(opened, partial(self._ended_whole, opened), self.drain)
        if self.place is not None:
            opened.reader.keep(self.place.most_bytes)
        return relay

    def _note(self, part: Opened, outcome: str) -> None:
        # The attempt looked well at its first event; how it ended is known only now.
        attempt, reader = self.record.served, part.reader
        if attempt is None:
            return
        attempt.outcome, attempt.text_bytes = outcome, reader.text_bytes
        attempt.usage, attempt.usage_fault = reader.usage, reader.usage_fault

    def _ended(self, opened: Opened, outcome: str) -> None:
        self._settle(outcome, CLIENT_CLOSED if outcome == "client_gone" else 200)
        if outcome != "ok":
            return
        if self.place is not None:
            self.place.keep_stream(opened.reader, self.record)
        if self.talk is not None:
            self.talk.served(self.record)

    def _ended_whole(self, opened: Opened, outcome: str) -> None:
        self._note(opened, outcome)
        self._ended(opened, outcome)

    async def _go_on(self, decision: Decision, rest: Request) -> tuple[Opened, str] | None:
        """The rest of a stream from a model that has not failed in it."""
        self.place = None  # what two models have written is nobody's answer
        failed = {one.model for one in self.record.attempts if one.outcome != HEDGED_AWAY}
        plan = tuple(model for model in decision.plan if model.name not in failed)
        result = await self.deliver(rest, plan, self.record, decision) if plan else None
        return (result, self.record.model or "") if isinstance(result, Opened) else None

    # --- each of them -------------------------------------------------------------------------

    def _settle(self, outcome: str, status: int) -> None:
        self.settlement.settle(self.record, self.decision, outcome, status)

    def _headers(self) -> Headers:
        return headers(self.record, debug=self.request.debug)


def refused(
    settlement: Settlement,
    record: Record,
    error: GatewayError,
    decision: Decision | None = None,
    *,
    debug: bool = False,
) -> Reply:
    """An error as a reply, and its request settled."""
    settlement.settle(record, decision, "error", error.status)
    if isinstance(error, UpstreamRefusedRequest) and read_error(error.body):
        body = error.body
    else:
        body = error_body(error.message, error.type, error.param, error.code)
    return Reply(error.status, body, headers=[*error.headers, *headers(record, debug=debug)])


def _nothing_to_close() -> None:
    """Nobody is at work for an answer that is there already."""


def _keep_to(relay: Relaying, reply: StreamReply) -> None:
    """Give a reply the deadline of its relay, and every other that it comes to have."""
    reply.deadline = relay.deadline
    if isinstance(relay, Continuing):
        relay.moved = partial(setattr, reply, "deadline")
