"""Is this prompt like anything the outcomes know?

The mean similarity of the ten nearest, placed between the lowest that known prompts have among each
other. The single nearest misleads, because one odd neighbour is enough; gibberish, most other
languages and kinds of work without labels stand out in this mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAREST = 10


@dataclass(frozen=True, slots=True)
class NoveltyScale:
    """`familiar` and above is novelty 0, `strange` and below is 1: two low quantiles of the
    outcomes' own density.
    """

    familiar: float
    strange: float

    def novelty(self, similarities: NDArray[np.float32]) -> float:
        """From similarities in falling order."""
        if not len(similarities):
            return 1.0
        return self.place(density(similarities))

    def place(self, closeness: float) -> float:
        """From any measure of how close something is to the outcomes, on this scale."""
        place = (self.familiar - closeness) / max(self.familiar - self.strange, 1e-6)
        return min(1.0, max(0.0, place))


def density(similarities: NDArray[np.float32]) -> float:
    """Mean similarity of the nearest; `similarities` fall."""
    return float(similarities[:NEAREST].mean())
