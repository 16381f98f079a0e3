"""Boosted regression trees, as arrays: predicting takes numpy alone, and no library is loaded.

Every tree is complete and three levels deep, so one prediction is three rounds of gathers over all
trees at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array

DEPTH = 3
NODES = 2**DEPTH - 1
LEAVES = 2**DEPTH


@dataclass(frozen=True, slots=True)
class Trees:
    """Sums of trees for t outputs, `rounds` trees each.

    `features` and `thresholds` (t, rounds, NODES), nodes in level order: a value above the
    threshold goes right. `leaves` (t, rounds, LEAVES) from left to right.
    """

    features: NDArray[np.int64]
    thresholds: NDArray[np.float32]
    leaves: NDArray[np.float32]
    outputs: int

    @classmethod
    def select(cls, arrays: Sequence[NDArray[Any]], outputs: Sequence[int]) -> Trees:
        """Of these outputs, from the arrays of all, ready to predict with."""
        chosen = np.asarray(outputs, dtype=np.intp)
        features, thresholds, leaves = (array[chosen] for array in arrays)
        return cls(
            np.ascontiguousarray(features, dtype=np.int64).reshape(-1, NODES),
            np.ascontiguousarray(thresholds, dtype=np.float32).reshape(-1, NODES),
            np.ascontiguousarray(leaves, dtype=np.float32).reshape(-1, LEAVES),
            len(chosen),
        )

    def predict(self, values: NDArray[np.float32]) -> Array:
        """(t,) for the features (d,). Only of what `select` made."""
        trees = np.arange(len(self.features))
        node = np.zeros(len(trees), dtype=np.int64)
        for _ in range(DEPTH):
            above = values[self.features[trees, node]] > self.thresholds[trees, node]
            node = 2 * node + 1 + above
        reached = self.leaves[trees, node - NODES]
        return np.asarray(reached.reshape(self.outputs, -1).sum(axis=1, dtype=np.float64))
