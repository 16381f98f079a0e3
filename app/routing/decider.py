"""Deciding as a request meets it: at two speeds, by the words alone where that settles the choice,
else by their vector as well.

The one part of routing that waits (for the encoder) and that no failure may leave: a request whose
prediction fails is decided by rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.accounting.ledger import Ledger
from app.catalog.model import Model
from app.exchange.record import Record
from app.routing.conversation.affinity import Conversation
from app.routing.decision import Decision, Speed, by_rule, decide, eligible, pin
from app.routing.encoder.embedder import Embedder, Vector
from app.routing.estimators.base import Neighbour, Query
from app.routing.explain import explain
from app.routing.facts import Facts
from app.routing.route import Route
from app.routing.two_speed import clear
from app.telemetry.logs import log
from app.telemetry.metrics import Metrics


@dataclass(slots=True)
class Decider:
    """Decides for every route, over one encoder; None where no route encodes."""

    embedder: Embedder | None
    metrics: Metrics

    async def decide(
        self, target: Route | Model, facts: Facts, talk: Conversation | None = None
    ) -> Decision:
        """Choose a model, as its conversation has it. Raises NoEligibleCandidate."""
        if isinstance(target, Model):
            return pin(target)
        able = eligible(target, facts)
        if len(able) < 2:
            # Nothing to choose between, so nothing is worth predicting.
            return by_rule(target, facts, "only_candidate" if able else "only_fallbacks")
        decision = await self._predict(target, facts)
        if decision.speed in ("text", "encoded"):
            target.margin.count(encoded=decision.speed == "encoded")
        return decision if talk is None else talk.keep(decision)

    async def explain(
        self,
        target: Route | Model,
        facts: Facts,
        neighbours: int,
        talk: Conversation | None = None,
    ) -> dict[str, Any]:
        """The same decision with its evidence. Raises NoEligibleCandidate."""
        if isinstance(target, Model):
            return explain(pin(target), facts)
        eligible(target, facts)
        decision = await self._predict(target, facts)
        if talk is not None:
            decision = talk.keep(decision)
        evidence: tuple[Neighbour, ...] = ()
        if neighbours and decision.options:
            evidence = await self.evidence(target, facts.instruction, neighbours)
        return explain(decision, facts, evidence)

    def keep(self, record: Record, text: str, ledger: Ledger) -> None:
        """Of a prompt, what a ledger is asked to keep."""
        if ledger.keep_prompt_text:
            record.prompt = text
        if ledger.keep_embeddings and self.embedder is not None and text:
            vector = self.embedder.cached(text)
            record.embedding = None if vector is None else vector.astype("<f4").tobytes()

    async def _predict(self, route: Route, facts: Facts) -> Decision:
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

    async def evidence(self, route: Route, text: str, count: int) -> tuple[Neighbour, ...]:
        """The neighbours of a text, nearest first."""
        if self.embedder is None or route.encode == "never" or not text:
            return route.estimator.neighbours(Query(text, None), count)
        # Not remembered: a vector at hand would let the chat door decide otherwise than was shown.
        vector = await self.embedder.embed(text, remember=False)
        return route.estimator.neighbours(Query(text, vector), count)


def _estimated(route: Route, facts: Facts, vector: Vector | None, speed: Speed) -> Decision:
    estimate = route.estimator.estimate(Query(facts.instruction, vector))
    return decide(route, facts, estimate, speed)
