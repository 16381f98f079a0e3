"""The first router's estimator: cluster, neighbourhood and linear heads added up in log-odds.

Each starts where the one before it ends. The cluster table gives the prior; neighbourhood and heads
each propose a shift common to all candidates and one of each candidate's own; five weights fitted
on out-of-fold predictions say how far to follow them. Plain kNN loses to knowing the task alone on
most data; shrunk this way it does not have to. What is unlike all outcomes falls back to each
model's overall standing, with little support.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array, Candidate, Estimate, Neighbour, Query
from app.routing.estimators.clusters import (
    ClusterPrior,
    ClusterVotes,
    Standing,
    log_odds_of,
    sigmoid,
)
from app.routing.estimators.knn import MISSING, SCORE_STEPS, KnnSettings, LocalEvidence
from app.routing.estimators.lengths import ExpectedLength
from app.routing.estimators.linear import LinearHeads
from app.routing.estimators.novelty import NoveltyScale
from app.routing.estimators.rows import Rows
from app.routing.index import VectorIndex

CELL_SUPPORT = 10.0
"""A cluster's mean says at most this many observations' worth about one prompt in it."""

LIKE_SUPPORT = 0.5
"""Outcomes of a model that a candidate is only like count half."""


@dataclass(frozen=True, slots=True)
class BlendWeights:
    """How far to follow the prior and each shift."""

    prior: float = 1.0
    knn_common: float = 1.0
    knn_own: float = 0.5
    linear_common: float = 0.5
    linear_own: float = 0.5


class BlendEstimator:
    """Bound to a route's candidates; see the module."""

    reads_text = False

    def __init__(
        self,
        candidates: Sequence[Candidate],
        standings: Sequence[Standing],
        *,
        prior: ClusterPrior,
        votes: ClusterVotes,
        index: VectorIndex,
        evidence: LocalEvidence,
        heads: LinearHeads,
        lengths: ExpectedLength,
        novelty: NoveltyScale,
        weights: BlendWeights,
        knn: KnnSettings,
        rows: Rows,
    ) -> None:
        self._models = tuple(candidate.name for candidate in candidates)
        self._standings = tuple(standings)
        self._prior = prior
        self._votes = votes
        self._index = index
        self._evidence = evidence
        self._heads = heads
        self._lengths = lengths
        self._novelty = novelty
        self._weights = weights
        self._count = knn.count
        self._rows = rows
        self._floor = np.array([standing.support for standing in standings])
        self._trust = np.array([1.0 if standing.exact else LIKE_SUPPORT for standing in standings])

    def estimate(self, query: Query) -> Estimate:
        if query.vector is None:
            return self._without_vector()
        vector = query.vector
        similarities, near = self._index.search(vector, self._count)
        novelty = self._novelty.novelty(similarities)
        if not len(near):
            return self._without_vector()
        shares = self._votes.shares(near, similarities)
        weights = self._evidence.weights(similarities)
        log_odds = self._log_odds(vector, shares, near, weights)
        familiar = 1.0 - novelty
        quality = familiar * sigmoid(log_odds) + novelty * self._prior.overall
        cell = np.minimum(shares @ self._prior.counts, CELL_SUPPORT)
        seen = self._evidence.support(near, weights) + cell
        return Estimate(
            models=self._models,
            quality=quality,
            support=self._floor + familiar * self._trust * seen,
            output_tokens=self._lengths.expect(shares, near, weights, novelty),
            novelty=novelty,
        )

    def neighbours(self, query: Query, count: int) -> tuple[Neighbour, ...]:
        if query.vector is None:
            return ()
        similarities, near = self._index.search(query.vector, count)
        return tuple(
            Neighbour(
                id=self._rows.id(int(row)),
                task=self._rows.task(int(row)),
                similarity=float(similarity),
                scores=self._scores(int(row)),
            )
            for similarity, row in zip(similarities, near, strict=True)
        )

    def _log_odds(
        self,
        vector: NDArray[np.float32],
        shares: Array,
        near: NDArray[np.int64],
        weights: NDArray[np.float32],
    ) -> Array:
        local = self._evidence.shift(near, weights)
        linear = self._heads.shift(vector)
        by = self._weights
        common = by.knn_common * local.common + by.linear_common * linear.common
        own = by.knn_own * local.own + by.linear_own * linear.own
        prior = by.prior * log_odds_of(shares @ self._prior.quality)
        return np.asarray(prior + common + own)

    def _without_vector(self) -> Estimate:
        return Estimate(
            models=self._models,
            quality=self._prior.overall,
            support=self._floor,
            output_tokens=self._lengths.typical(),
            novelty=1.0,
        )

    def _scores(self, row: int) -> dict[str, float]:
        known = {}
        for name, standing in zip(self._models, self._standings, strict=True):
            if standing.column is None:
                continue
            code = int(self._rows.scores[row, standing.column])
            if code != MISSING:
                known[name] = code / SCORE_STEPS
        return known
