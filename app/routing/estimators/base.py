"""What every estimator takes and gives: a query in, quality per candidate with uncertainty out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Array = NDArray[np.float64]

BROAD_QUALITY = 0.5
BROAD_SUPPORT = 2.0
"""Belief about a model of which nothing is known: as if two answers, one right, were seen."""


@dataclass(frozen=True, slots=True)
class Query:
    """The instruction of a request; `vector` (d,) of unit length, None if it was not encoded."""

    text: str
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that a route offers: known by its own name or `like` a known one, or only stated."""

    name: str
    like: str | None = None
    quality: float | None = None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A past prompt near a query; `scores` by candidate name, where they are known."""

    id: str
    task: str
    similarity: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Predictions for M candidates, in their order.

    `quality` (M,) in [0, 1]; `support` (M,) the effective number of outcomes behind each;
    `output_tokens` (M,) expected, nan if unknown; `novelty` 0 familiar .. 1 unlike anything seen.
    `doubt` (M,) by how much, one standard deviation in quality, the estimate with the vector may
    still differ from this one, for each candidate relative to the others; None where encoding
    would change nothing, as once the vector was used.
    """

    models: tuple[str, ...]
    quality: Array
    support: Array
    output_tokens: Array
    novelty: float
    doubt: Array | None = None
    _intervals: dict[float, tuple[Array, Array]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Intervals already asked for: a remembered estimate is asked again at every request."""

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Lower and upper bound of each quality, holding with probability `level`.

        Wilson's score interval with the support as n: a closed form within a hair of the
        quantiles of Beta(p n, (1 - p) n), which would need scipy.
        """
        known = self._intervals.get(level)
        if known is None:
            known = self._intervals[level] = self._wilson(level)
        return known

    def _wilson(self, level: float) -> tuple[Array, Array]:
        if level <= 0:
            return self.quality, self.quality
        z = NormalDist().inv_cdf((1 + level) / 2)
        n, p = np.maximum(self.support, 1e-9), self.quality
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)


class Estimator(Protocol):
    """A method, bound to the candidates of a route."""

    @property
    def reads_text(self) -> bool:
        """Whether `Query(text, None)` gets a prediction from the words, in tens of microseconds;
        else only the models' standing is known without a vector.
        """
        ...

    def estimate(self, query: Query) -> Estimate: ...

    def neighbours(self, query: Query, count: int) -> tuple[Neighbour, ...]:
        """Evidence for explanations, nearest first; empty where the method has none."""
        ...
