"""The estimator that serves: what every kind has in common, around the method that makes the kind.

One search finds the neighbours, and with them novelty, clusters and support, expected lengths and
what to show as evidence. The method is asked for quality; where it knows nothing of a candidate,
the clusters answer. What is unlike all outcomes falls back to each model's overall standing, with
little support, whatever the method says: no method has seen anything like it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.routing.estimators.base import Array, Candidate, Estimate, Neighbour, Query
from app.routing.estimators.clusters import ClusterPrior, ClusterVotes, Standing
from app.routing.estimators.knn import MISSING, SCORE_STEPS, Neighbourhood
from app.routing.estimators.lengths import ExpectedLength
from app.routing.estimators.method import Method, Near, Read, Reader
from app.routing.estimators.novelty import NoveltyScale
from app.routing.estimators.rows import Rows
from app.routing.index import VectorIndex

CELL_SUPPORT = 10.0
"""A cluster's mean says at most this many observations' worth about one prompt in it."""

JOINED_SUPPORT = 32.0
"""The same of a model that joined, which has no labelled neighbours: measured, as `joined` says."""

LIKE_TRUST = 0.5
"""Outcomes of a model that a candidate is only like count half."""


class RouterEstimator:
    """Bound to a route's candidates; see the module."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        standings: Sequence[Standing],
        *,
        method: Method,
        prior: ClusterPrior,
        votes: ClusterVotes,
        index: VectorIndex,
        neighbourhood: Neighbourhood,
        lengths: ExpectedLength,
        novelty: NoveltyScale,
        count: int,
        rows: Rows,
        usual_support: Array,
    ) -> None:
        self._reader = method if isinstance(method, Reader) else None
        self._models = tuple(candidate.name for candidate in candidates)
        self._standings = tuple(standings)
        self._method = method
        self._prior = prior
        self._votes = votes
        self._index = index
        self._neighbourhood = neighbourhood
        self._lengths = lengths
        self._novelty = novelty
        self._count = count
        self._rows = rows
        self._usual = usual_support
        # Without a vector these are the same for every prompt.
        self._apart = prior.apart()
        self._typical = lengths.typical()
        self._floor = np.array([standing.support for standing in standings])
        self._most_of_cell = most_of_cell(standings)
        self._trust = np.array([1.0 if standing.exact else LIKE_TRUST for standing in standings])

    @property
    def reads_text(self) -> bool:
        return self._reader is not None

    def estimate(self, query: Query) -> Estimate:
        if query.vector is None:
            if self._reader is None:
                return self._standing_alone()
            return self._by_words(self._reader.read(query.text))
        similarities, rows = self._index.search(query.vector, self._count)
        novelty = self._novelty.novelty(similarities)
        if not len(rows):
            return self._standing_alone()
        near = Near(
            text=query.text,
            vector=query.vector,
            rows=rows,
            similarities=similarities,
            weights=self._neighbourhood.weights(similarities),
            shares=self._votes.shares(rows, similarities),
        )
        familiar = 1.0 - novelty
        quality = self._complete(self._method.quality(near), near)
        cell = np.minimum(near.shares @ self._prior.counts, self._most_of_cell)
        seen = self._neighbourhood.support(rows, near.weights) + cell
        return Estimate(
            models=self._models,
            quality=familiar * quality + novelty * self._prior.overall,
            support=self._floor + familiar * self._trust * seen,
            output_tokens=self._lengths.expect(near.shares, rows, near.weights, novelty),
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

    def _by_words(self, read: Read) -> Estimate:
        familiar = 1.0 - read.novelty
        quality, doubt = read.quality, read.doubt
        unknown = np.isnan(quality)
        if unknown.any():
            quality = np.where(unknown, self._prior.overall, quality)
            # With the vector the clusters would answer for these: they may differ as clusters do.
            doubt = np.where(unknown, self._apart, doubt)
        return Estimate(
            models=self._models,
            quality=familiar * quality + read.novelty * self._prior.overall,
            support=self._floor + familiar * self._trust * self._usual,
            output_tokens=self._typical * (1.0 + familiar * (read.length - 1.0)),
            novelty=read.novelty,
            doubt=doubt,
        )

    def _standing_alone(self) -> Estimate:
        return Estimate(
            models=self._models,
            quality=self._prior.overall,
            support=self._floor,
            output_tokens=self._typical,
            novelty=1.0,
        )

    def _complete(self, quality: Array, near: Near) -> Array:
        unknown = np.isnan(quality)
        if unknown.any():
            quality = np.where(unknown, near.shares @ self._prior.quality, quality)
        return quality

    def _scores(self, row: int) -> dict[str, float]:
        known = {}
        for name, standing in zip(self._models, self._standings, strict=True):
            if standing.column is None:
                continue
            code = int(self._rows.scores[row, standing.column])
            if code != MISSING:
                known[name] = code / SCORE_STEPS
        return known


def most_of_cell(standings: Sequence[Standing]) -> Array:
    """(M,): what scores in the query's cluster are worth at most."""
    return np.array([CELL_SUPPORT if s.joined is None else JOINED_SUPPORT for s in standings])
