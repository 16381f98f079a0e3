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
from app.accounting.charges import charge
from app.accounting.ledger import Ledger
from app.accounting.limiter import Applied, Limiter
from app.accounting.most import Size
from app.catalog.model import Model
from app.catalog.prices import DAY_SECONDS
from app.delivery.attempt import Opened, Whole
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
from app.exchange.money import usd_text
from app.exchange.record import Prediction, Record
from app.exchange.reply import Headers, Reply, StreamReply
from app.exchange.request import Request
from app.routing.decision import PINNED, Decision, Speed, by_rule, decide, eligible, pin
from app.routing.encoder.embedder import Embedder, Vector
from app.routing.estimators.base import Neighbour, Query
from app.routing.explain import explain
from app.routing.facts import Facts, inspect
from app.routing.names import Names
from app.routing.route import Route
from app.routing.two_speed import clear
from app.telemetry.logs import log
from app.telemetry.metrics import CLIENT_CLOSED, Metrics
from app.wire.openai_chat import error_body, read_error

_NOT_TEXT = frozenset({"vision", "audio", "files"})


@dataclass(slots=True)
class Pipeline:
    """Everything a request meets on its way; wired by `app.assembly`."""

    names: Names
    upstreams: Mapping[str, Upstream]
    embedder: Embedder | None
    metrics: Metrics
    limits: Limiter
    ledger: Ledger | None = None
    drain: Drain = field(default_factory=Drain)
    _warned: set[str] = field(default_factory=set)
    """What has been told of models' prices and reports."""

    async def chat(self, request: Request, caller: Caller) -> Reply | StreamReply:
        """Serve one chat request. Never raises but for cancellation: errors are replies."""
        record = Record(request.id, request.started, request.received)
        self.metrics.in_flight.inc()
        decision: Decision | None = None
        try:
            target = self.admit(request, record, caller)
            applied = self.limits.applied(caller, record.route)
            self.limits.foresee(applied)
            facts = inspect(request.payload)
            record.expected_input_tokens = facts.input_tokens
            size = _size(request, facts, int(record.at // DAY_SECONDS))
            decision = await self._within_limits(target, facts, record, applied, size)
            afford = partial(self.limits.afford, record) if record.hold else None
            result = await deliver(request, decision.plan, self.upstreams, record, afford)
        except GatewayError as error:
            return self._refused(record, decision, error, debug=request.debug)
        except asyncio.CancelledError:
            if self.drain.over:
                return self._refused(record, decision, stopping(), debug=request.debug)
            self._settle(record, decision, "client_gone", CLIENT_CLOSED)
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
        record = Record(request_id, started, received=perf_counter())
        self.metrics.in_flight.inc()
        return self._refused(record, None, error)

    def admit(self, request: Request, record: Record, caller: Caller) -> Route | Model:
        """What the request asks for, if this caller may. Raises UnknownModel or OutOfScope."""
        record.key_id, record.tags = caller.key_id, caller.tags
        target = self.names.resolve(request.model, caller)
        record.route = PINNED if isinstance(target, Model) else target.name
        return target

    async def decide(self, target: Route | Model, facts: Facts, record: Record) -> Decision:
        """Choose a model. Raises NoEligibleCandidate."""
        decision = pin(target) if isinstance(target, Model) else await self._choose(target, facts)
        record.decision, record.reason = decision.kind, decision.reason
        record.speed = decision.speed or "none"
        record.decide_seconds = perf_counter() - record.received
        self.metrics.decided(record, decision.novelty)
        return decision

    async def _within_limits(
        self, target: Route | Model, facts: Facts, record: Record, applied: Applied, size: Size
    ) -> Decision:
        """Decide, and reserve what the chosen model may cost.

        Where a budget is low, or has no room for the choice, a route may have another objective
        for that. Raises NoEligibleCandidate or LimitReached.
        """
        thrifty = target.thrifty if isinstance(target, Route) and applied else None
        if thrifty is not None and self.limits.low(applied):
            target, thrifty = thrifty, None
        decision = await self.decide(target, facts, record)
        if applied:
            try:
                await self._reserve(record.request_id, decision, record, applied, size)
            except (BudgetReserved, BudgetExhausted):
                if thrifty is None:
                    raise
                decision = await self.decide(thrifty, facts, record)
                # By a name of its own: the state may still be giving up the first one.
                again = f"{record.request_id}.low"
                await self._reserve(again, decision, record, applied, size)
        if decision.pace is not None:
            record.booked = decision.pace.book(decision.expected_cost, decision.cost_spread)
        if self.ledger is not None:
            self._note(self.ledger, record, decision, facts.instruction)
        return decision

    async def _reserve(
        self, id_: str, decision: Decision, record: Record, applied: Applied, size: Size
    ) -> None:
        record.hold = await self.limits.reserve(id_, applied, decision.chosen, size)

    def _note(self, ledger: Ledger, record: Record, decision: Decision, text: str) -> None:
        """What the ledger keeps of a decision."""
        record.predictions = tuple(
            Prediction(o.model.name, o.quality, o.low, o.high, o.cost, o.eligible)
            for o in decision.options
        )
        if ledger.keep_prompt_text:
            record.prompt = text
        if ledger.keep_embeddings and self.embedder is not None and text:
            vector = self.embedder.cached(text)
            record.embedding = None if vector is None else vector.astype("<f4").tobytes()

    async def _choose(self, route: Route, facts: Facts) -> Decision:
        able = eligible(route, facts)
        if len(able) < 2:
            # Nothing to choose between, so nothing is worth predicting.
            return by_rule(route, facts, "only_candidate" if able else "only_fallbacks")
        decision = await self._predict(route, facts)
        if decision.speed in ("text", "encoded"):
            route.margin.count(encoded=decision.speed == "encoded")
        return decision

    async def _predict(self, route: Route, facts: Facts) -> Decision:
        """At two speeds: by the words alone where that settles it, else by their vector as well."""
        embedder, text = self.embedder, facts.instruction
        try:
            if embedder is None or route.encode == "never" or not text:
                return _estimated(route, facts, None, "text")
            vector = embedder.cached(text)
            self.metrics.looked_up(hit=vector is not None)
            if vector is not None:
                return _estimated(route, facts, vector, "cached")
            if route.encode == "when-unsure" and route.estimator.reads_text:
                decision = _estimated(route, facts, None, "text")
                if clear(decision):
                    return decision
            return _estimated(route, facts, await embedder.embed(text), "encoded")
        except Exception as error:  # noqa: BLE001 - no failure of prediction may fail a request
            log.exception("route %s could not predict", route.name, exc_info=error)
            return by_rule(route, facts, "prediction_failed")

    async def explain(self, request: Request, neighbours: int, caller: Caller) -> dict[str, Any]:
        """The decision on a request with its evidence, no model called. Raises CallerError."""
        target = self.names.resolve(request.model, caller)
        if isinstance(target, Route) and target.thrifty is not None:
            applied = self.limits.applied(caller, target.name)
            target = target.thrifty if self.limits.low(applied) else target
        facts = inspect(request.payload)
        if isinstance(target, Model):
            return explain(pin(target), facts)
        eligible(target, facts)
        decision = await self._predict(target, facts)
        evidence: tuple[Neighbour, ...] = ()
        if neighbours and decision.options:
            evidence = await self._evidence(target, facts.instruction, neighbours)
        return explain(decision, facts, evidence)

    async def _evidence(self, route: Route, text: str, count: int) -> tuple[Neighbour, ...]:
        if self.embedder is None or route.encode == "never" or not text:
            return route.estimator.neighbours(Query(text, None), count)
        # Not remembered: a vector at hand would let the chat door decide otherwise than was shown.
        vector = await self.embedder.embed(text, remember=False)
        return route.estimator.neighbours(Query(text, vector), count)

    def readiness(self) -> dict[str, str]:
        """How what can be done without is; requests are served either way."""
        told: dict[str, str] = {"ledger": "off" if self.ledger is None else self.ledger.state}
        away = self.limits.state.away
        if away is not None:
            told["redis"] = "away" if away else "connected"
        return told

    # --- what goes back -----------------------------------------------------------------------

    def _whole(self, request: Request, record: Record, decision: Decision, result: Whole) -> Reply:
        self._settle(record, decision, "ok", 200)
        return Reply(200, result.body, headers=_headers(record, decision, debug=request.debug))

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
            self._settle(record, decision, outcome, status)

        relay = Relay(opened, ended, self.drain)
        headers = _headers(record, decision, debug=request.debug)
        return StreamReply(relay.events(), relay.close, relay.deadline, headers)

    def _refused(
        self,
        record: Record,
        decision: Decision | None,
        error: GatewayError,
        *,
        debug: bool = False,
    ) -> Reply:
        self._settle(record, decision, "error", error.status)
        if isinstance(error, UpstreamRefusedRequest) and read_error(error.body):
            body = error.body
        else:
            body = error_body(error.message, error.type, error.param, error.code)
        headers = [*error.headers, *_headers(record, decision, debug=debug)]
        return Reply(error.status, body, headers=headers)

    def _settle(self, record: Record, decision: Decision | None, outcome: str, status: int) -> None:
        """Book the request, once."""
        record.outcome, record.status = outcome, status
        now = perf_counter()
        record.duration_seconds = now - record.started
        if record.attempts:
            visible = record.first_token_seconds or now - record.received
            record.overhead_seconds = max(visible - record.upstream_seconds, 0.0)
        self.metrics.in_flight.dec()
        # A bug in one of these must not keep the others from it, least of all from giving back what
        # the request held.
        for step in (self._charge, _correct, self._give_back, self._count, self._keep):
            try:
                step(record, decision)
            except Exception as error:  # noqa: BLE001
                log.exception("request %s was not settled whole", record.request_id, exc_info=error)

    def _charge(self, record: Record, decision: Decision | None) -> None:
        for doubt in charge(record, self.names.models, decision.baseline if decision else None):
            if doubt.key not in self._warned:
                self._warned.add(doubt.key)
                log.warning("%s", doubt.message)

    def _give_back(self, record: Record, decision: Decision | None) -> None:
        self.limits.settle(record)

    def _count(self, record: Record, decision: Decision | None) -> None:
        self.metrics.settle(record)

    def _keep(self, record: Record, decision: Decision | None) -> None:
        if self.ledger is not None and record.route != "none":
            self.ledger.append(record)


def _size(request: Request, facts: Facts, day: int) -> Size:
    """What bounds a request's cost. Images, audio and files count at twice what is usual of them:
    given by name alone, nothing in the request bounds them."""
    most = len(request.body)
    if facts.needs & _NOT_TEXT:
        most += 2 * facts.input_tokens
    # Servers differ in which of the two they heed.
    ends = [request.payload.get(name) or 0 for name in ("max_completion_tokens", "max_tokens")]
    return Size(most, facts.input_tokens, max(ends) or None, facts.choices, day)


def _estimated(route: Route, facts: Facts, vector: Vector | None, speed: Speed) -> Decision:
    estimate = route.estimator.estimate(Query(facts.instruction, vector))
    return decide(route, facts, estimate, speed)


def _correct(record: Record, decision: Decision | None) -> None:
    """A pace, from the expected cost to the true one; what was served at a cost unknown stays as
    booked."""
    if decision is None or (pace := decision.pace) is None:
        return
    if record.cost is not None:
        as_decided = record.model == decision.chosen.name
        pace.correct(record.cost, record.booked, decision.expected_cost if as_decided else None)
    elif record.model is None:
        pace.correct(0, record.booked)


def _headers(record: Record, decision: Decision | None, *, debug: bool) -> Headers:
    """What Pointsman says about a reply; with `x-pointsman-debug: true` more of it."""
    headers = [
        ("x-pointsman-request-id", record.request_id),
        ("x-pointsman-route", record.route),
        ("x-pointsman-decision", record.decision),
    ]
    if record.model is not None:
        headers.append(("x-pointsman-model", record.model))
    if record.cost is not None:
        headers.append(("x-pointsman-cost-usd", usd_text(record.cost)))
    if record.saved is not None:
        headers.append(("x-pointsman-saved-usd", usd_text(record.saved)))
    if record.hold is not None:
        headers += record.hold.headers
    if debug:
        headers += _debug_headers(record, decision)
    return headers


def _debug_headers(record: Record, decision: Decision | None) -> Headers:
    attempts = ", ".join(
        f"{attempt.model}={attempt.outcome};ms={attempt.seconds * 1000:.1f}"
        for attempt in record.attempts
    )
    headers = [
        ("x-pointsman-reason", record.reason),
        ("x-pointsman-speed", record.speed),
        ("x-pointsman-attempts", attempts),
        ("x-pointsman-decide-ms", f"{record.decide_seconds * 1000:.3f}"),
        ("x-pointsman-upstream-ms", f"{record.upstream_seconds * 1000:.3f}"),
    ]
    if record.cost_estimated:
        headers.append(("x-pointsman-cost-estimated", "true"))
    if decision is not None and decision.options:
        predictions = ", ".join(
            f"{o.model.name}={o.quality:.3f}[{o.low:.3f}..{o.high:.3f}]" for o in decision.options
        )
        headers.append(("x-pointsman-predictions", predictions))
    return headers
