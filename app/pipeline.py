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
from typing import Any

from app.accounting.caller import Caller
from app.accounting.ledger import Ledger
from app.accounting.limiter import Applied, Limiter
from app.accounting.most import Size
from app.accounting.settlement import Settlement
from app.catalog.model import Model
from app.delivery.attempt import Opened, Whole
from app.delivery.deployments import Deployments
from app.delivery.drain import Drain, stopping
from app.delivery.fallback import deliver
from app.delivery.relay import Relay
from app.delivery.upstreams.base import Upstream
from app.errors import (
    BudgetExhausted,
    BudgetReserved,
    GatewayError,
    GatewayFault,
    UpstreamRefusedRequest,
)
from app.exchange.headers import headers
from app.exchange.record import Record
from app.exchange.reply import Reply, StreamReply
from app.exchange.request import Request
from app.exchange.terms import USUAL_TERMS
from app.routing.bounds import size
from app.routing.decider import Decider
from app.routing.decision import PINNED, Decision
from app.routing.facts import Facts, inspect
from app.routing.names import Names
from app.routing.route import Route
from app.telemetry.logs import log
from app.telemetry.metrics import CLIENT_CLOSED, Metrics
from app.wire.openai_chat import error_body, read_error


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
    drain: Drain = field(default_factory=Drain)

    async def chat(self, request: Request, caller: Caller) -> Reply | StreamReply:
        """Serve one chat request. Never raises but for cancellation: errors are replies."""
        record = self.settlement.begin(request.id, request.started, request.received)
        decision: Decision | None = None
        try:
            target = self.admit(request, record, caller)
            applied = self.limits.applied(caller, record.route)
            self.limits.foresee(applied)
            facts = inspect(request.payload)
            record.expected_input_tokens = facts.input_tokens
            most = size(request, facts, record.at)
            decision = await self.decide(target, facts, record, applied, most)
            afford = partial(self.limits.afford, record) if record.hold else None
            terms = decision.route.terms if decision.route else USUAL_TERMS
            result = await deliver(
                request, decision.plan, self.upstreams, record, self.deployments, terms, afford
            )
        except GatewayError as error:
            return self._refused(record, decision, error, debug=request.debug)
        except asyncio.CancelledError:
            if self.drain.over:
                return self._refused(record, decision, stopping(), debug=request.debug)
            self.settlement.settle(record, decision, "client_gone", CLIENT_CLOSED)
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours must still answer in the envelope
            log.exception("request %s failed inside the gateway", request.id, exc_info=error)
            fault = GatewayFault("Internal error.")
            return self._refused(record, decision, fault, debug=request.debug)
        if record.model != decision.chosen.name:
            record.decision = "fallback"
        if isinstance(result, Whole):
            return self._whole(request, record, decision, result)
        return self._stream(request, record, decision, result)

    def refuse(self, request_id: str, started: float, error: GatewayError) -> Reply:
        """Answer what never became a request; it is counted like any other."""
        record = self.settlement.begin(request_id, started, received=perf_counter())
        return self._refused(record, None, error)

    def admit(self, request: Request, record: Record, caller: Caller) -> Route | Model:
        """What the request asks for, if this caller may. Raises UnknownModel or OutOfScope."""
        record.key_id, record.tags = caller.key_id, caller.tags
        target = self.names.resolve(request.model, caller)
        record.route = PINNED if isinstance(target, Model) else target.name
        return target

    async def decide(
        self, target: Route | Model, facts: Facts, record: Record, applied: Applied, most: Size
    ) -> Decision:
        """Choose a model, and reserve what it may cost.

        Where a budget is low, or has no room for the choice, a route may have another objective
        for that. Raises NoEligibleCandidate or LimitReached.
        """
        thrifty = target.thrifty if isinstance(target, Route) and applied else None
        if thrifty is not None and self.limits.low(applied):
            target, thrifty = thrifty, None
        decision = await self._choose(target, facts, record)
        try:
            await self._reserve(record.request_id, decision, record, applied, most)
        except (BudgetReserved, BudgetExhausted):
            if thrifty is None:
                raise
            decision = await self._choose(thrifty, facts, record)
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

    async def _choose(self, target: Route | Model, facts: Facts, record: Record) -> Decision:
        decision = await self.decider.decide(target, facts)
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
        """The decision on a request with its evidence, no model called. Raises CallerError."""
        target = self.names.resolve(request.model, caller)
        if isinstance(target, Route) and target.thrifty is not None:
            applied = self.limits.applied(caller, target.name)
            target = target.thrifty if self.limits.low(applied) else target
        return await self.decider.explain(target, inspect(request.payload), neighbours)

    def readiness(self) -> dict[str, str]:
        """How what can be done without is; requests are served either way."""
        told: dict[str, str] = {"ledger": "off" if self.ledger is None else self.ledger.state}
        away = self.limits.state.away
        if away is not None:
            told["redis"] = "away" if away else "connected"
        return told

    # --- what goes back -----------------------------------------------------------------------

    def _whole(self, request: Request, record: Record, decision: Decision, result: Whole) -> Reply:
        self.settlement.settle(record, decision, "ok", 200)
        return Reply(200, result.body, headers=headers(record, debug=request.debug))

    def _stream(
        self, request: Request, record: Record, decision: Decision, opened: Opened
    ) -> StreamReply:
        record.first_token_seconds = perf_counter() - request.received

        def ended(outcome: str) -> None:
            # The attempt looked well at its first event; how it ended is known only now.
            noted, reader = record.attempts[-1], opened.reader
            noted.outcome, noted.text_bytes = outcome, reader.text_bytes
            noted.usage, noted.usage_fault = reader.usage, reader.usage_fault
            status = CLIENT_CLOSED if outcome == "client_gone" else 200
            self.settlement.settle(record, decision, outcome, status)

        relay = Relay(opened, ended, self.drain)
        told = headers(record, debug=request.debug)
        return StreamReply(relay.events(), relay.close, relay.deadline, told)

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
