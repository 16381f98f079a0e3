"""RouteLLM's BERT classifier (Ong et al. 2024, arXiv 2406.18665) as a router: quality straight from
the heads of the encoder that made the vector.

The paper's predicts win, tie or loss of one pair. The heads here (`classifier`) give the quality of
any number of models, and that pair's labels where tuning was told of one. The router holds its own
copy of them, calibrated, so that it needs nothing of the encoder but its vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array
from app.routing.estimators.classifier import ClassifierHeads, PairHead
from app.routing.estimators.clusters import Standing
from app.routing.estimators.levels import around
from app.routing.estimators.method import Known, Near


@dataclass(frozen=True, slots=True)
class PairGain:
    """The expected gain by P(strong wins): `won`, the mean difference of scores in a win, times it,
    less `lost`, what losses cost on average over all prompts.

    So gains rank as P(strong wins) does, which is the paper's score, and are right on average.
    """

    strong: int
    weak: int
    head: PairHead
    won: float
    lost: float

    def gain(self, vectors: NDArray[np.float32]) -> Array:
        """(n,) for vectors (n, dimensions)."""
        return np.asarray(self.won * self.head.strong_wins(vectors) - self.lost)


class TunedHead:
    """Bound to a route's candidates; see the module. A model that tuning did not know has nan.

    Where the route is the pair's, the two qualities lie about the mean of what the heads say of
    them, as far apart as the pair's own head says.
    """

    def __init__(self, heads: ClassifierHeads, pair: PairGain | None = None) -> None:
        """`pair` has places among two candidates."""
        self._heads = heads
        self._pair = pair

    def quality(self, near: Near) -> Array:
        vectors = near.vector[None, :]
        quality: Array = self._heads.quality(vectors)[0]
        if self._pair is None:
            return quality
        half = 0.5 * float(self._pair.gain(vectors)[0])
        apart = np.empty(2)
        apart[self._pair.strong], apart[self._pair.weak] = half, -half
        return around(float(quality.mean()), apart)


def bind_tuned(known: Known, standings: Sequence[Standing]) -> TunedHead:
    weights = known.arrays["heads"]
    chosen = np.full((len(weights), len(standings)), np.nan, dtype=np.float32)
    for at, standing in enumerate(standings):
        if standing.column is not None:
            chosen[:, at] = weights[:, standing.column]
    return TunedHead(ClassifierHeads(chosen), _pair(known, standings))


def _pair(known: Known, standings: Sequence[Standing]) -> PairGain | None:
    """The pair's head, if these are the pair and nothing else."""
    pair = known.settings["pair"]
    if pair is None:
        return None
    named = [None if s.column is None else known.models[s.column] for s in standings]
    if sorted(map(str, named)) != sorted((pair["strong"], pair["weak"])):
        return None
    return PairGain(
        strong=named.index(pair["strong"]),
        weak=named.index(pair["weak"]),
        head=PairHead(known.arrays["pair"]),
        won=pair["won"],
        lost=pair["lost"],
    )
