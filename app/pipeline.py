"""The way of one request: admit, inspect, decide, deliver, settle.

Each step takes a value and gives a value, and the rooms it calls do the work. This file is the
story; read it first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, Literal

from app.accounting.caller import ANONYMOUS, Caller
from app.accounting.ledger import Ledger
from app.accounting.limiter import Applied, Limiter
from app.accounting.most import Size
from app.accounting.settlement import Settlement
from app.catalog.model import Model
from app.delivery.attempt import Opened, Whole
from app.delivery.cache.answers import AnswerCache, Place
from app.delivery.cache.replay import Hit
from app.delivery.continuation import Continuing, Relaying, is_plain
from app.delivery.deployments import Deployments
from app.delivery.drain import Drain, stopping
from app.delivery.fallback import deliver
from app.delivery.relay import Relay
from app.delivery.upstreams.base import Upstream
from app.delivery.waiting import Waiting, within
from app.errors import (
    BudgetExhausted,
    BudgetReserved,
    GatewayError,
    GatewayFault,
    GatewayStopping,
    UpstreamRefusedRequest,
)
from app.exchange.headers import headers
from app.exchange.record import Record
from app.exchange.reply import Reply, StreamReply
from app.exchange.request import Request
from app.routing.bounds import size
from app.routing.conversation.affinity import Conversation, conversation
from app.routing.conversation.sessions import Sessions
from app.routing.decider import Decider
from app.routing.decision import PINNED, Decision
from app.routing.facts import Facts, inspect
from app.routing.names import Names
from app.routing.route import Route
from app.telemetry.logs import log
from app.telemetry.metrics import CLIENT_CLOSED, Metrics
from app.wire import sse
from app.wire.openai_chat import StreamReader, error_body, read_error

Heeded = Literal["cache-control", "session"]

_REPLAY_SECONDS = 600.0
"""For a client to take a stream that is there already."""


@dataclass(slots=True)
class Pipeline:
    """Everything a request meets on its way; wired by `app.assembly`."""

    names: Names
    upstreams: Mapping[str, Upstream]
    decider: Decider
    limits: Limiter
    settlement: Settlement
    metrics: Metrics
    ledger: Ledger | None = None
    deployments: Deployments = field(default_factory=Deployments)
    cache: AnswerCache | None = None
    sessions: Sessions | None = None
    comment_seconds: float | None = None
    """How long a stream may be silent before it begins."""

    drain: Drain = field(default_factory=Drain)
    reads: frozenset[Heeded] = field(init=False)
    """The request headers that somebody in here heeds."""

    def __post_init__(self) -> None:
        asked: dict[Heeded, object] = {"cache-control": self.cache, "session": self.sessions}
        self.reads = frozenset(name for name, by in asked.items() if by is not None)

    async def chat(self, request: Request, caller: Caller) -> Reply | StreamReply:
        """Serve one chat request. Never raises but for cancellation: errors are replies."""
        record = self.settlement.begin(request.id, request.started, request.received)
        self.settlement.trace(record, request.traceparent, request)
        decision: Decision | None = None
        try:
            target = self.admit(request, record, caller)
            applied = self.limits.applied(caller, record.route)
            self.limits.foresee(applied)
            facts = inspect(request.payload)
            record.expected_input_tokens = facts.input_tokens
            after = _Afterwards()
            if self.cache is not None:
                found = await self.cache.look(request, target, facts.tool_results, caller, record)
                if isinstance(found, Hit):
                    return await self._again(request, record, facts, applied, found)
                after.place = found
            most = size(request, facts, record.at)
            after.talk = await self._talk(request, target, facts, caller)
            decision = await self.decide(target, facts, record, applied, most, after.talk)
            first = after.talk.deployment if after.talk else None
            delivery = self._deliver(request, decision.plan, record, decision, first)
            if request.stream and self.comment_seconds is not None:
                result = await within(delivery, self.comment_seconds)
            else:
                result = await delivery
        except GatewayError as error:
            return self._refused(record, decision, error, debug=request.debug)
        except asyncio.CancelledError:
            if self.drain.over:
                return self._refused(record, decision, stopping(), debug=request.debug)
            self.settlement.settle(record, decision, "client_gone", CLIENT_CLOSED)
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours must still answer in the envelope
            return self._refused(record, decision, _told(request, error), debug=request.debug)
        if isinstance(result, asyncio.Task):
            return self._waiting(request, record, decision, result, after)
        if isinstance(result, Whole):
            return self._whole(request, record, decision, result, after)
        return self._stream(request, record, decision, result, after)

    def refuse(
        self,
        request_id: str,
        started: float,
        error: GatewayError,
        caller: Caller = ANONYMOUS,
        traceparent: str | None = None,
    ) -> Reply:
        """Answer what never became a request; it is counted like any other."""
        record = self.settlement.begin(request_id, started, received=perf_counter())
        self.settlement.trace(record, traceparent)
        record.key_id, record.tags = caller.key_id, caller.tags
        return self._refused(record, None, error)

    def admit(self, request: Request, record: Record, caller: Caller) -> Route | Model:
        """What the request asks for, if this caller may. Raises UnknownModel or OutOfScope."""
        record.key_id, record.tags = caller.key_id, caller.tags
        target = self.names.resolve(request.model, caller)
        record.route = PINNED if isinstance(target, Model) else target.name
        return target

    async def decide(
        self,
        target: Route | Model,
        facts: Facts,
        record: Record,
        applied: Applied,
        most: Size,
        talk: Conversation | None = None,
    ) -> Decision:
        """Choose a model, and reserve what it may cost.

        Where a budget is low, or has no room for the choice, a route may have another objective
        for that. Raises NoEligibleCandidate or LimitReached.
        """
        thrifty = target.thrifty if isinstance(target, Route) and applied else None
        if thrifty is not None and self.limits.low(applied):
            target, thrifty = thrifty, None
        decision = await self._choose(target, facts, record, talk)
        try:
            await self._reserve(record.request_id, decision, record, applied, most)
        except (BudgetReserved, BudgetExhausted):
            if thrifty is None:
                raise
            decision = await self._choose(thrifty, facts, record, talk)
            # By a name of its own: the state may still be giving up the first one.
            again = f"{record.request_id}.low"
            await self._reserve(again, decision, record, applied, most)
        finally:
            # Here, and not as it is chosen: a request that is decided again is one decision.
            self.metrics.decided(record, decision.novelty)
        record.booked = decision.book()
        if self.ledger is not None:
            self.decider.keep(record, facts.instruction, self.ledger)
        return decision

    async def _deliver(
        self,
        request: Request,
        plan: tuple[Model, ...],
        record: Record,
        decision: Decision,
        first: str | None = None,
    ) -> Whole | Opened:
        """Carry out a plan, the deployment `first` before its model's others."""
        afford = partial(self.limits.afford, record) if record.hold else None
        result = await deliver(
            request, plan, self.upstreams, record, self.deployments, decision.terms, afford, first
        )
        if record.model != decision.chosen.name:
            record.decision = "fallback"
        return result

    async def _choose(
        self, target: Route | Model, facts: Facts, record: Record, talk: Conversation | None
    ) -> Decision:
        decision = await self.decider.decide(target, facts, talk)
        record.decision, record.reason = decision.kind, decision.reason
        record.speed = decision.speed or "none"
        record.predictions = decision.predictions
        record.decide_seconds = perf_counter() - record.received
        return decision

    async def _reserve(
        self, id_: str, decision: Decision, record: Record, applied: Applied, most: Size
    ) -> None:
        if applied:
            record.hold = await self.limits.reserve(id_, applied, decision.chosen, most)

    async def explain(self, request: Request, neighbours: int, caller: Caller) -> dict[str, Any]:
        """The decision on a request with its evidence, no model called: it costs no money, and
        counts as a request of the minute. Raises CallerError or LimitReached."""
        target = self.names.resolve(request.model, caller)
        route = PINNED if isinstance(target, Model) else target.name
        applied = self.limits.applied(caller, route)
        await self.limits.count_at_once(request.id, applied)
        if isinstance(target, Route) and target.thrifty is not None:
            target = target.thrifty if self.limits.low(applied) else target
        facts = inspect(request.payload)
        talk = await self._talk(request, target, facts, caller)
        return await self.decider.explain(target, facts, neighbours, talk)

    async def _talk(
        self, request: Request, target: Route | Model, facts: Facts, caller: Caller
    ) -> Conversation | None:
        """The conversation that a request belongs to, where a route keeps them together."""
        if self.sessions is None:
            return None
        return await conversation(request, target, facts, caller, self.sessions)

    def readiness(self) -> dict[str, str]:
        """How what can be done without is; requests are served either way."""
        told: dict[str, str] = {"ledger": "off" if self.ledger is None else self.ledger.state}
        away = self.limits.state.away
        if away is not None:
            told["redis"] = "away" if away else "connected"
        return told

    # --- what goes back -----------------------------------------------------------------------

    async def _again(
        self, request: Request, record: Record, facts: Facts, applied: Applied, hit: Hit
    ) -> Reply | StreamReply:
        """An answer from the cache. Raises LimitReached."""
        record.decision, record.reason = "cached", hit.reason
        record.decide_seconds = perf_counter() - record.received
        self.metrics.decided(record, None)
        record.hold = await self.limits.count(record.request_id, applied, hit.baseline)
        record.model = hit.model
        if self.ledger is not None:
            self.decider.keep(record, facts.instruction, self.ledger)
        self.settlement.settle(record, hit, "ok", 200)
        told = headers(record, debug=request.debug)
        if not request.stream:
            return Reply(200, hit.body, headers=told)
        until = asyncio.get_running_loop().time() + _REPLAY_SECONDS
        return StreamReply(hit.events(), _nothing_to_close, until, told)

    def _whole(
        self,
        request: Request,
        record: Record,
        decision: Decision,
        result: Whole,
        after: _Afterwards,
    ) -> Reply:
        self.settlement.settle(record, decision, "ok", 200)
        after.whole(result.body, record)
        return Reply(200, result.body, headers=headers(record, debug=request.debug))

    def _stream(
        self,
        request: Request,
        record: Record,
        decision: Decision,
        opened: Opened,
        after: _Afterwards,
    ) -> StreamReply:
        relay = self._relay(request, record, decision, opened, after)
        told = headers(record, debug=request.debug)
        reply = StreamReply(relay.events(), relay.close, None, told)
        _keep_to(relay, reply)
        return reply

    def _relay(
        self,
        request: Request,
        record: Record,
        decision: Decision,
        opened: Opened,
        after: _Afterwards,
    ) -> Relaying:
        record.first_token_seconds = perf_counter() - request.received

        def noted(part: Opened, outcome: str) -> None:
            # The attempt looked well at its first event; how it ended is known only now.
            attempt, reader = record.attempts[-1], part.reader
            attempt.outcome, attempt.text_bytes = outcome, reader.text_bytes
            attempt.usage, attempt.usage_fault = reader.usage, reader.usage_fault

        def ended(outcome: str) -> None:
            status = CLIENT_CLOSED if outcome == "client_gone" else 200
            self.settlement.settle(record, decision, outcome, status)
            if outcome == "ok":
                after.streamed(opened.reader, record)

        def whole(outcome: str) -> None:
            noted(opened, outcome)
            ended(outcome)

        async def following(rest: Request) -> tuple[Opened, str] | None:
            after.place = None  # what two models have written is nobody's answer
            failed = {attempt.model for attempt in record.attempts}
            plan = tuple(model for model in decision.plan if model.name not in failed)
            result = await self._deliver(rest, plan, record, decision) if plan else None
            return (result, record.model or "") if isinstance(result, Opened) else None

        relay: Relaying
        if decision.terms.continues and is_plain(request.payload):
            relay = Continuing(
                request, opened, following, noted=noted, ended=ended, drain=self.drain
            )
        else:
            relay = Relay(opened, whole, self.drain)
        after.opened(opened.reader)
        return relay

    def _waiting(
        self,
        request: Request,
        record: Record,
        decision: Decision,
        delivery: asyncio.Task[Any],
        after: _Afterwards,
    ) -> StreamReply:
        """A stream whose first event is late: it begins with comments, and without the headers
        that say who serves it."""

        def began(opened: Opened) -> Relaying:
            relay = self._relay(request, record, decision, opened, after)
            _keep_to(relay, reply)
            return relay

        def failed(error: Exception) -> bytes:
            return sse.event(self._refused(record, decision, _told(request, error)).body)

        def gone() -> None:
            if self.drain.over:
                self.settlement.settle(record, decision, GatewayStopping.outcome, 200)
            else:
                self.settlement.settle(record, decision, "client_gone", CLIENT_CLOSED)

        seconds = self.comment_seconds or 0.0
        waiting = Waiting(
            delivery, seconds, began=began, failed=failed, gone=gone, drain=self.drain
        )
        told = headers(record, debug=request.debug)
        reply = StreamReply(waiting.events(), waiting.close, None, told)
        return reply

    def _refused(
        self,
        record: Record,
        decision: Decision | None,
        error: GatewayError,
        *,
        debug: bool = False,
    ) -> Reply:
        self.settlement.settle(record, decision, "error", error.status)
        if isinstance(error, UpstreamRefusedRequest) and read_error(error.body):
            body = error.body
        else:
            body = error_body(error.message, error.type, error.param, error.code)
        return Reply(error.status, body, headers=[*error.headers, *headers(record, debug=debug)])


@dataclass(slots=True)
class _Afterwards:
    """Who is to hear of an answer that went well."""

    place: Place | None = None
    talk: Conversation | None = None

    def whole(self, body: bytes, record: Record) -> None:
        if self.place is not None:
            self.place.keep("whole", body, record)
        if self.talk is not None:
            self.talk.served(record)

    def opened(self, reader: StreamReader) -> None:
        """A stream has begun."""
        if self.place is not None:
            reader.keep(self.place.most_bytes)

    def streamed(self, reader: StreamReader, record: Record) -> None:
        if self.place is not None:
            self.place.keep_stream(reader, record)
        if self.talk is not None:
            self.talk.served(record)


def _nothing_to_close() -> None:
    """Nobody is at work for an answer that is there already."""


def _keep_to(relay: Relaying, reply: StreamReply) -> None:
    """Give a reply the deadline of its relay, and every other that it comes to have."""
    reply.deadline = relay.deadline
    if isinstance(relay, Continuing):
        relay.moved = partial(setattr, reply, "deadline")


def _told(request: Request, error: Exception) -> GatewayError:
    """What a client is told of an error: all of ours, and nothing of a bug."""
    if isinstance(error, GatewayError):
        return error
    log.exception("request %s failed inside the gateway", request.id, exc_info=error)
    return GatewayFault("Internal error.")
