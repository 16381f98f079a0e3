"""A route as serving sees it: the models it may choose from and how it chooses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from app.catalog.model import Model
from app.exchange.terms import USUAL_TERMS, Terms
from app.routing.estimators.base import Estimator
from app.routing.margin import Margin
from app.routing.objective import Objective
from app.routing.pace import Pace

Encode = Literal["always", "when-unsure", "never"]
"""When a prompt's vector is worth its cost."""


@dataclass(frozen=True, slots=True)
class Affinity:
    """How a route's conversations stay with a model. Seconds; `remaining_turns` is how many
    requests a conversation is expected to have yet, `escalate_after` how many failing tool results
    in a row are enough, 0 for never."""

    ttl_seconds: float = 3_600.0
    warm_seconds: float = 300.0
    remaining_turns: float = 3.0
    escalate_after: int = 3


@dataclass(frozen=True, slots=True)
class Route:
    """`estimator` is bound to `candidates`, in their order."""

    name: str
    candidates: tuple[Model, ...]
    baseline: Model
    objective: Objective
    estimator: Estimator
    fallbacks: tuple[Model, ...] = ()
    learned: bool = True
    """False where the estimator only repeats stated qualities."""
    encode: Encode = "when-unsure"
    margin: Margin = field(default_factory=Margin)
    """The doubt that a choice must bear to be taken without the vector; the pipeline counts."""
    pace: Pace | None = None
    """Where the route has a budget: booked and corrected by the pipeline."""
    terms: Terms = USUAL_TERMS
    """How its requests are delivered."""
    affinity: Affinity | None = None
    """None where each request is decided by itself."""
    thrifty: Route | None = None
    """The same route with the objective for when a budget runs low."""

    def succeed(self, former: Route) -> None:
        """Go on from what the route of this name remembers in the configuration before."""
        self.margin.succeed(former.margin)
        if self.pace is not None and former.pace is not None:
            self.pace.succeed(former.pace)
