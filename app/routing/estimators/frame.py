"""The estimator that serves: what every kind has in common, around the method that makes the kind.

One search finds the neighbours, and with them novelty, clusters and support, expected lengths and
what to show as evidence. The method is asked for quality; where it knows nothing of a candidate,
the clusters answer. What is unlike all outcomes falls back to each model's overall standing, with
little support, whatever the method says: no method has seen anything like it.

A model that joined a trained router (`pointsman add-model`) is a mixture of known ones, in
log-odds, and a little of its own on top, so it works with every method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array, Candidate, Estimate, Neighbour, Query, Vector
from app.routing.estimators.clusters import (
    ClusterPrior,
    ClusterVotes,
    Standing,
    log_odds_of,
    sigmoid,
)
from app.routing.estimators.knn import MISSING, SCORE_STEPS, Neighbourhood
from app.routing.estimators.lengths import ExpectedLength
from app.routing.estimators.method import Method, Near
from app.routing.estimators.novelty import NoveltyScale
from app.routing.estimators.rows import Rows
from app.routing.index import VectorIndex

CELL_SUPPORT = 10.0
"""A cluster's mean says at most this many observations' worth about one prompt in it."""

JOINED_SUPPORT = 32.0
"""The same of a model that joined, which has no labelled neighbours: measured, as `joined` says."""

LIKE_SUPPORT = 0.5
"""Outcomes of a model that a candidate is only like count half."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Candidates as weighted sums of the log-odds of others: `weights` (M, parts), `bias` (M,).

    `heads` (M, d) add what is the candidate's own, by the vector less `centre` (M,); over the
    outcomes it varies by `spread` (M,), a standard deviation.
    """

    weights: Array
    bias: Array
    heads: NDArray[np.float32]
    centre: Array
    spread: Array

    def of(self, quality: Array, vector: Vector | None = None) -> Array:
        """Quality of the candidates from that of the parts."""
        log_odds = self.weights @ log_odds_of(quality) + self.bias
        if vector is not None:
            log_odds = log_odds + (self.heads @ vector - self.centre)
        return sigmoid(log_odds)

    def doubt(self, doubt: Array, quality: Array) -> Array:
        """Of the candidates, from that of the parts, as if those had nothing in common; without a
        vector there is also what the heads would add to `quality` (M,).
        """
        own = self.spread * quality * (1.0 - quality)
        return np.asarray(np.sqrt(self.weights**2 @ doubt**2 + own**2))


class RouterEstimator:
    """Bound to a route's candidates; see the module. `method` and `prior` speak of the parts of the
    mixture where there is one, all else of the candidates.
    """

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
        counts: Array,
        lengths: ExpectedLength,
        novelty: NoveltyScale,
        count: int,
        rows: Rows,
        usual_support: Array,
        mixture: Mixture | None = None,
    ) -> None:
        self.reads_text = method.reads_text
        self._models = tuple(candidate.name for candidate in candidates)
        self._standings = tuple(standings)
        self._method = method
        self._prior = prior
        self._votes = votes
        self._index = index
        self._neighbourhood = neighbourhood
        self._counts = counts
        self._lengths = lengths
        self._novelty = novelty
        self._count = count
        self._rows = rows
        self._mixture = mixture
        self._usual = usual_support
        self._floor = np.array([standing.support for standing in standings])
        self._most_of_cell = most_of_cell(standings)
        self._trust = np.array([1.0 if standing.exact else LIKE_SUPPORT for standing in standings])
        self._overall = self._mixed(prior.overall)

    def estimate(self, query: Query) -> Estimate:
        if query.vector is None:
            return self._by_words(query.text) if self.reads_text else self._standing_alone()
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
        quality = self._mixed(self._complete(self._method.quality(near), near), query.vector)
        cell = np.minimum(near.shares @ self._counts, self._most_of_cell)
        seen = self._neighbourhood.support(rows, near.weights) + cell
        return Estimate(
            models=self._models,
            quality=familiar * quality + novelty * self._overall,
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

    def _by_words(self, text: str) -> Estimate:
        read = self._method.read(text)
        familiar = 1.0 - read.novelty
        quality = np.where(np.isnan(read.quality), self._prior.overall, read.quality)
        mixed = self._mixed(quality)
        return Estimate(
            models=self._models,
            quality=familiar * mixed + read.novelty * self._overall,
            support=self._floor + familiar * self._trust * self._usual,
            output_tokens=self._lengths.typical() * (1.0 + familiar * (read.length - 1.0)),
            novelty=read.novelty,
            doubt=read.doubt if self._mixture is None else self._mixture.doubt(read.doubt, mixed),
        )

    def _standing_alone(self) -> Estimate:
        return Estimate(
            models=self._models,
            quality=self._overall,
            support=self._floor,
            output_tokens=self._lengths.typical(),
            novelty=1.0,
        )

    def _complete(self, quality: Array, near: Near) -> Array:
        unknown = np.isnan(quality)
        if unknown.any():
            quality = np.where(unknown, near.shares @ self._prior.quality, quality)
        return quality

    def _mixed(self, quality: Array, vector: Vector | None = None) -> Array:
        return quality if self._mixture is None else self._mixture.of(quality, vector)

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
    return np.array([CELL_SUPPORT if s.counts is None else JOINED_SUPPORT for s in standings])
