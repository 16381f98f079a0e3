"""RouteLLM's matrix factorisation (Ong et al. 2024, arXiv 2406.18665): a model is a vector, a query
is projected beside it, and their product says how well the model does there.

delta(m, q) = w2' (v_m * (W1' e + b)) with v_m of unit length, and P(s beats w) =
sigmoid(delta_s - delta_w). The paper knows preferences only. Outcomes have scores as well, so here
a level common to all models is fitted with it, and sigmoid(level(q) + delta(m, q)) is the chance
that m answers well: a quality, comparable with those of other kinds, for any number of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array
from app.routing.estimators.clusters import Standing, sigmoid
from app.routing.estimators.method import Known, Near


@dataclass(frozen=True, slots=True)
class Factors:
    """`models` (models, d), any length; `projection` (dimensions + 1, d), bias last; `output` (d,);
    `level` (dimensions + 1,), bias last. `known` (models,) says which models were fitted.
    """

    models: NDArray[np.float32]
    projection: NDArray[np.float32]
    output: NDArray[np.float32]
    level: NDArray[np.float32]
    known: NDArray[np.bool_]

    def heads(self) -> NDArray[np.float32]:
        """The same as one linear map: (dimensions + 1, models), log-odds of level + delta."""
        delta = self.projection @ (unit(self.models) * self.output).T
        return np.asarray(delta + self.level[:, None], dtype=np.float32)


class Factorised:
    """Bound to a route's candidates; see the module. Knows nothing of one that no outcome of the
    training had.
    """

    def __init__(self, heads: NDArray[np.float32]) -> None:
        """`heads` (dimensions + 1, M), bias last; nan where nothing is known."""
        self._weights = np.ascontiguousarray(heads[:-1])
        self._bias = heads[-1]

    def quality(self, near: Near) -> Array:
        return sigmoid((near.vector @ self._weights + self._bias).astype(np.float64))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of length one each."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)


def bind_factors(known: Known, standings: Sequence[Standing]) -> Factorised:
    factors = Factors(**{name: known.arrays[name] for name in Factors.__slots__})
    heads = np.full((len(factors.projection), len(standings)), np.nan, dtype=np.float32)
    whole = factors.heads()
    for at, standing in enumerate(standings):
        if standing.column is not None and factors.known[standing.column]:
            heads[:, at] = whole[:, standing.column]
    return Factorised(heads)
