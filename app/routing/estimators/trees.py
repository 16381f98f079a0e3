"""Boosted regression trees, as arrays: predicting takes numpy alone, and no library is loaded.

Every tree is complete and three levels deep, so all nodes of all trees are asked at once, and a
table says where the answers lead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array

DEPTH = 3
NODES = 2**DEPTH - 1
LEAVES = 2**DEPTH


def _leaf_of_answers() -> NDArray[np.intp]:
    """The leaf for each of the 2**NODES ways in which a tree's nodes can answer."""
    leaves = []
    for answers in range(2**NODES):
        node = 0
        for _ in range(DEPTH):
            node = 2 * node + 1 + (answers >> node & 1)
        leaves.append(node - NODES)
    return np.array(leaves, dtype=np.intp)


_LEAF_OF = _leaf_of_answers()


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
    _starts: NDArray[np.intp] = field(init=False)

    def __post_init__(self) -> None:
        starts = np.arange(0, self.leaves.size, LEAVES, dtype=np.intp)
        object.__setattr__(self, "_starts", starts)

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
        # Every node is asked, also those off the path: one gather instead of one a level.
        above = values.take(self.features) > self.thresholds
        # The answers of a tree are seven bits, which say where its path ends.
        reached = np.packbits(above, axis=1, bitorder="little").ravel()
        leaf = self._starts + _LEAF_OF[reached]
        return np.asarray(
            self.leaves.take(leaf).reshape(self.outputs, -1).sum(axis=1, dtype=np.float64)
        )
