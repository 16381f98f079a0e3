"""Deciding: from facts and an estimate to the chosen model, why, and the order to try the rest.

Pure: no clock, no I/O. Facts come first: a candidate that cannot serve the request is out, with
its reasons, before anything is predicted about it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from app.accounting.cost import expected_cost
from app.catalog.model import Model
from app.errors import NoEligibleCandidate
from app.exchange.record import Prediction, Record
from app.exchange.terms import USUAL_TERMS, Terms
from app.routing.estimators.base import Estimate
from app.routing.facts import Facts
from app.routing.objective import Choice, Option
from app.routing.pace import Pace
from app.routing.route import Route

Kind = Literal["learned", "pinned", "sticky", "rule", "fallback", "cached"]

PINNED = "pinned"
"""Stands for the route of a request that names a model."""

Speed = Literal["text", "cached", "encoded"]
"""What a prediction was made from: the words alone, a vector that was at hand, or one encoded for
it."""

UNKNOWN_OUTPUT_TOKENS = 300.0
"""Expected length of an answer when no outcome says: about a page of chat."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided. `plan` is what delivery carries out, first to last."""

    kind: Kind
    reason: str
    plan: tuple[Model, ...]
    route: Route | None = None
    options: tuple[Option, ...] = ()
    novelty: float | None = None
    speed: Speed | None = None
    """None where nothing was predicted."""

    @property
    def chosen(self) -> Model:
        return self.plan[0]

    @property
    def terms(self) -> Terms:
        """What it is delivered on."""
        return self.route.terms if self.route else USUAL_TERMS

    @property
    def route_name(self) -> str:
        return self.route.name if self.route else PINNED

    @property
    def pace(self) -> Pace | None:
        return self.route.pace if self.route else None

    @property
    def expected_cost(self) -> int | None:
        """Of the chosen model, in nano-dollars; None without a prediction or a price."""
        return next((o.cost for o in self.options if o.model is self.chosen), None)

    @property
    def cost_spread(self) -> int:
        """Expected cost of the dearest candidate less that of the cheapest; 0 if unknown."""
        costs = [o.cost for o in self.options if o.eligible and o.cost is not None]
        return max(costs) - min(costs) if costs else 0

    @property
    def baseline(self) -> Model | None:
        return self.route.baseline if self.route else None

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """What was expected of each candidate, as it is told and kept."""
        return tuple(
            [
                Prediction(o.model.name, o.quality, o.low, o.high, o.cost, o.eligible)
                for o in self.options
            ]
        )

    def book(self) -> float:
        """Set down its expected cost against its route's pace; gives the amount, for `correct`."""
        return 0.0 if self.pace is None else self.pace.book(self.expected_cost, self.cost_spread)

    def correct(self, record: Record) -> None:
        """The pace, from the expected cost to the true one; what was served at a cost unknown stays
        as booked."""
        if (pace := self.pace) is None:
            return
        if record.cost is not None:
            as_decided = record.model == self.chosen.name
            pace.correct(record.cost, record.booked, self.expected_cost if as_decided else None)
        elif record.model is None:
            pace.correct(0, record.booked)


def pin(model: Model) -> Decision:
    """The client named a model: nothing to decide."""
    return Decision(kind="pinned", reason="pinned", plan=(model,))


def obstacles(model: Model, facts: Facts) -> tuple[str, ...]:
    """Why a model cannot serve a request; empty if it can. What is not known is no obstacle."""
    reasons = []
    if model.capabilities is not None and facts.needs:
        offered = model.capabilities
        if "json_schema" in offered:
            offered = offered | {"json_object"}
        reasons += [f"lacks_{need}" for need in sorted(facts.needs - offered)]
    wanted = facts.max_output or 0
    if model.max_output is not None and wanted > model.max_output:
        reasons.append("output_too_small")
    if model.context_window is not None and facts.input_tokens + wanted > model.context_window:
        reasons.append("context_too_small")
    return tuple(reasons)


def eligible(route: Route, facts: Facts) -> list[Model]:
    """Candidates that can serve the request.

    Raises NoEligibleCandidate, with each one's reasons, when neither a candidate nor a fallback
    of the route can.
    """
    able = [model for model in route.candidates if not obstacles(model, facts)]
    if not able and not any(not obstacles(model, facts) for model in route.fallbacks):
        raise NoEligibleCandidate(_explain(route, facts), param="model")
    return able


def decide(route: Route, facts: Facts, estimate: Estimate, speed: Speed | None = None) -> Decision:
    """Choose by the route's objective. `estimate` covers `route.candidates`, in their order."""
    options = _options(route, facts, estimate)
    able = [option for option in options if option.eligible]
    choice = (
        route.objective.choose(able, estimate.novelty) if able else Choice((), "only_fallbacks")
    )
    return Decision(
        kind="learned" if route.learned and len(able) > 1 else "rule",
        reason="only_candidate" if len(able) == 1 else choice.reason,
        plan=_plan([option.model for option in choice.order], route, facts),
        route=route,
        options=options,
        novelty=estimate.novelty,
        speed=speed if route.learned else None,
    )


def by_rule(route: Route, facts: Facts, reason: str) -> Decision:
    """Decide without an estimate: baseline first where it can serve, then the dearest.

    Used where there is nothing to predict (one candidate) and where prediction failed: the
    request must not suffer for it.
    """
    able = [model for model in route.candidates if not obstacles(model, facts)]
    able.sort(key=lambda model: (model is not route.baseline, -_price(model, facts)))
    return Decision(kind="rule", reason=reason, plan=_plan(able, route, facts), route=route)


def _plan(models: list[Model], route: Route, facts: Facts) -> tuple[Model, ...]:
    able = [model for model in route.fallbacks if not obstacles(model, facts)]
    return tuple(dict.fromkeys([*models, *able]))


def _price(model: Model, facts: Facts) -> float:
    price = expected_cost(model.prices, facts.input_tokens, UNKNOWN_OUTPUT_TOKENS)
    return math.inf if price is None else price


def _options(route: Route, facts: Facts, estimate: Estimate) -> tuple[Option, ...]:
    # A one-sided bound at confidence c is the low end of a two-sided interval at 2c - 1.
    low, high = estimate.interval(2 * route.objective.confidence - 1)
    doubt = estimate.doubt
    columns = zip(
        route.candidates,
        estimate.quality.tolist(),
        low.tolist(),
        high.tolist(),
        estimate.output_tokens.tolist(),
        [None] * len(route.candidates) if doubt is None else doubt.tolist(),
        strict=True,
    )
    return tuple(_option(facts, *column) for column in columns)


def _option(
    facts: Facts,
    model: Model,
    quality: float,
    low: float,
    high: float,
    length: float,
    doubt: float | None,
) -> Option:
    tokens = _output_tokens(length, model, facts)
    return Option(
        model=model,
        quality=quality,
        low=low,
        high=high,
        output_tokens=tokens,
        cost=expected_cost(model.prices, facts.input_tokens, tokens * facts.choices),
        reasons=obstacles(model, facts),
        doubt=doubt,
    )


def _output_tokens(expected: float, model: Model, facts: Facts) -> float:
    tokens = UNKNOWN_OUTPUT_TOKENS if math.isnan(expected) else expected
    if facts.max_output is not None:
        tokens = min(tokens, facts.max_output)
    return tokens if model.max_output is None else min(tokens, model.max_output)


def _explain(route: Route, facts: Facts) -> str:
    reasons = "; ".join(
        f"{model.name}: {', '.join(obstacles(model, facts))}" for model in route.candidates
    )
    return (
        f"No model of route `{route.name}` can serve this request "
        f"(about {facts.input_tokens} input tokens): {reasons}."
    )
