"""What tells one kind of estimator from another: how it gets from a query, and what was found near
it, to the quality of each candidate.

All the rest, from the search to support and lengths, is common to all kinds and lives in `frame`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array, Vector
from app.routing.estimators.clusters import ClusterPrior, ClusterTable, Standing
from app.routing.estimators.knn import KnnSettings


@dataclass(frozen=True, slots=True)
class Near:
    """A query with what was found near it.

    `rows` (k,) of the known prompts, the nearest first, with falling `similarities` and the
    kernel's `weights`; `shares` (clusters,) says in which clusters the query lies, and sums to 1.
    """

    text: str
    vector: Vector
    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]
    weights: NDArray[np.float32]
    shares: Array


@dataclass(frozen=True, slots=True)
class Read:
    """What the words of a query tell on their own: `quality` (M,), and `doubt` (M,), the standard
    deviation of what the vector would still change of each candidate relative to the others;
    `length` is the expected answer's length relative to the usual one; `novelty` from 0 to 1. Of a
    candidate that it knows nothing of, `quality` and `doubt` are nan.
    """

    quality: Array
    doubt: Array
    length: float
    novelty: float


class Method(Protocol):
    """A kind of estimator, bound to M candidates."""

    def quality(self, near: Near) -> Array:
        """(M,) from 0 to 1; nan for a candidate that it knows nothing of."""
        ...


@runtime_checkable
class Reader(Method, Protocol):
    """A method that has something to tell without a vector, too."""

    def read(self, text: str) -> Read:
        """From the words alone."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """What a router directory holds that any method may be bound with.

    `scores` (rows, models) are quantised, 255 where there is none; those of `relative` rows are win
    rates, of which only the differences mean anything. `usual_support` (models,) is the mean
    support that neighbours give. `arrays` and `settings` are the method's own, as its fit left
    them.
    """

    models: tuple[str, ...]
    scores: NDArray[np.uint8]
    row_clusters: NDArray[np.uint16]
    difficulty: NDArray[np.float16]
    relative: NDArray[np.bool_]
    usual_support: NDArray[np.float32]
    table: ClusterTable
    knn: KnnSettings
    arrays: Mapping[str, NDArray[Any]]
    settings: Mapping[str, Any]

    def columns(self, standings: Sequence[Standing]) -> NDArray[np.intp]:
        """Columns of the candidates' outcomes, -1 for one without any."""
        return np.array([-1 if s.column is None else s.column for s in standings], dtype=np.intp)

    def scores_of(self, standings: Sequence[Standing]) -> NDArray[np.uint8]:
        """(rows, M), 255 where there is no score."""
        chosen = np.full((len(self.scores), len(standings)), 255, dtype=np.uint8)
        for at, standing in enumerate(standings):
            if standing.column is not None:
                chosen[:, at] = self.scores[:, standing.column]
        return chosen

    def prior(self, standings: Sequence[Standing]) -> ClusterPrior:
        return self.table.prior(standings)


class Bind(Protocol):
    """Makes a method of a kind for candidates; takes some milliseconds."""

    def __call__(self, known: Known, standings: Sequence[Standing]) -> Method: ...
