"""What an estimator is: from a request's text and vector to each candidate's quality, with how much is known about it.

Every method of the literature fits behind these few values, so that a route can use any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Query:
    """What is known of a request: its instruction, and its vector once encoded."""

    text: str
    vector: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model a route offers. What is known of it, best first: outcomes under its own name, outcomes of a model it is
    `like`, a stated mean `quality` in [0, 1], or nothing."""

    name: str
    like: str | None = None
    quality: float | None = None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A known prompt near the query. `scores` are by candidate name, known ones only."""

    id: str
    task: str
    similarity: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Per candidate, in order: expected quality, and the number of observations it is worth.

    `output_tokens` is nan where nothing is known. `novelty` runs from 0, like the training data, to 1, unlike all of it.
    """

    models: tuple[str, ...]
    quality: Array
    support: Array
    output_tokens: Array
    novelty: float

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Low and high bound of each quality.

        Wilson's score interval for `support` observations at rate `quality`: close to the quantiles of
        Beta(p n, (1 - p) n), within [0, 1], in closed form, so that serving needs no statistics library.
        """
        z = NormalDist().inv_cdf((1.0 + level) / 2.0)
        share = z * z / np.maximum(self.support, 1e-9)
        centre = (self.quality + share / 2.0) / (1.0 + share)
        spread = np.sqrt(share * self.quality * (1.0 - self.quality) + share * share / 4.0) / (1.0 + share)
        return np.maximum(centre - spread, 0.0), np.minimum(centre + spread, 1.0)


class Estimator(Protocol):
    """Bound to a route's candidates; called once a request, so it must take well under a millisecond."""

    def estimate(self, query: Query) -> Estimate: ...

    def neighbours(self, query: Query, count: int) -> tuple[Neighbour, ...]:
        """The nearest known prompts, for explanations only."""
        ...
