"""Quality by direction: ridge heads on the embedding, for what changes smoothly over all prompts.

The heads answer the same two questions as the neighbourhood does: how easy is this prompt for any
model, and how does each model depart from that? Where neighbours are few, heads still know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.clusters import Standing
from app.routing.estimators.knn import Shift

LARGEST_SHIFT = 4.0


@dataclass(frozen=True, slots=True)
class LinearHeads:
    """`weights` (dimensions + 1, 1 + candidates): a column for the common shift, then one a
    candidate; bias last.
    """

    weights: NDArray[np.float32]

    @classmethod
    def for_candidates(
        cls, weights: NDArray[np.float16], standings: Sequence[Standing]
    ) -> LinearHeads:
        """Columns of the known candidates; one without outcomes has no departure of its own."""
        chosen = np.zeros((weights.shape[0], 1 + len(standings)), dtype=np.float32)
        chosen[:, 0] = weights[:, 0]
        for at, standing in enumerate(standings, start=1):
            if standing.column is not None:
                chosen[:, at] = weights[:, 1 + standing.column]
        return cls(chosen)

    def shift(self, vector: NDArray[np.float32]) -> Shift:
        values = (vector @ self.weights[:-1] + self.weights[-1]).astype(np.float64)
        bounded = np.clip(values, -LARGEST_SHIFT, LARGEST_SHIFT)
        return Shift(float(bounded[0]), bounded[1:])
