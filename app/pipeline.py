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
from app.delivery.cache.answers import AnswerCache
from app.delivery.cache.replay import Hit
from app.delivery.deployments import Deployments
from app.delivery.drain import Drain, stopping
from app.delivery.fallback import deliver
from app.delivery.upstreams.base import Upstream
from app.delivery.waiting import within
from app.errors import BudgetExhausted, BudgetReserved, GatewayError
from app.exchange.record import Record
from app.exchange.reply import Reply, StreamReply
from app.exchange.request import Request
from app.replies import Replies, refused
from app.routing.bounds import size
from app.routing.conversation.affinity import Conversation, conversation
from app.routing.conversation.sessions import Sessions
from app.routing.decider import Decider
from app.routing.decision import PINNED, Decision
from app.routing.facts import Facts, inspect
from app.routing.names import Names
from app.routing.route import Route
from app.telemetry.metrics import Metrics

Heeded = Literal["cache-control", "session"]


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
    """How long a stream may be silent while nobody has begun to answer."""

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
        replies = Replies(
            request, record, self.settlement, self.drain, self._deliver, self.comment_seconds
        )
        try:
            target = self.admit(request, record, caller)
            applied = self.limits.applied(caller, record.route)
            self.limits.foresee(applied)
            facts = inspect(request.payload)
            record.expected_input_tokens = facts.input_tokens
            if self.cache is not None:
                found = await self.cache.look(request, target, facts.tool_results, caller, record)
                if isinstance(found, Hit):
                    await self._known(found, record, facts, applied)
                    return replies.again(found)
                replies.place = found
            most = size(request, facts, record.at)
            talk = replies.talk = await self._talk(request, target, facts, caller)
            decision = await self.decide(target, facts, record, applied, most, talk)
            replies.decision = decision
            first = talk.deployment if talk else None
            delivery = self._deliver(request, decision.plan, record, decision, first)
            if request.stream and self.comment_seconds is not None:
                result = await within(delivery, self.comment_seconds)
                if isinstance(result, asyncio.Task):
                    return replies.late(result, self.comment_seconds)
            else:
                result = await delivery
        except asyncio.CancelledError:
            if self.drain.over:
                return replies.refused(stopping())
            replies.left()
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours must still answer in the envelope
            return replies.refused(error)
        return replies.answered(result)

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
        return refused(self.settlement, record, error)

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
        for that; and where it has no room for it, no conversation stays with its model. Raises
        NoEligibleCandidate or LimitReached.
        """
        thrifty = target.thrifty if isinstance(target, Route) and applied else None
        if thrifty is not None and self.limits.low(applied):
            target, thrifty = thrifty, None
        decision = await self._choose(target, facts, record, talk)
        try:
            await self._reserve(record.request_id, decision, record, applied, most)
        except (BudgetReserved, BudgetExhausted):
            if thrifty is None and decision.kind != "sticky":
                raise
            if talk is not None:
                talk.let_go()
            decision = await self._choose(thrifty or target, facts, record, None)
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

    async def _known(self, hit: Hit, record: Record, facts: Facts, applied: Applied) -> None:
        """Decide for an answer that the cache has. Raises LimitReached."""
        record.decision, record.reason = "cached", hit.reason
        record.decide_seconds = perf_counter() - record.received
        self.metrics.decided(record, None)
        record.hold = await self.limits.count(record.request_id, applied, hit.baseline)
        record.model = hit.model
        if self.ledger is not None:
            self.decider.keep(record, facts.instruction, self.ledger)

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
            request,
            plan,
            self.upstreams,
            record,
            self.deployments,
            decision.terms,
            afford,
            first,
            self.drain,
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
