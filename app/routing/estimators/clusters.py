"""Quality by kind of prompt: what each model scores in the query's cluster.

Clusters are k-means cells of the prompts (UniRoute, Avengers-Pro). Their values come from an
item-response model over all outcomes: ability of the model, ease of the cluster, the model's bent
for the cluster, difficulty of each prompt. So a model scored on a few clusters has a sensible value
in all, and models scored on different prompts, even within a cluster, can be compared.

A query belongs to clusters in the measure its neighbours do, not to the one with the nearest
centre: at a border between two kinds of prompt, the hard choice is a coin toss
(docs/decisions/0004-first-router.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array

EXTREME = 0.001
"""No cell says never or always."""

_BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a candidate before the query is seen: which column of the outcomes, or which
    ability.
    """

    column: int | None
    ability: float
    exact: bool
    """The outcomes are the candidate's own, not those of a model it is like."""
    support: float
    """Observations its ability is worth."""
    joined: JoinedStanding | None = None
    """Of a model that has no column, since it joined after training."""


@dataclass(frozen=True, slots=True)
class JoinedStanding:
    """What its scored prompts said of a model that joined: `log_odds` of its mean quality over each
    cluster's prompts and what its `counts` there are worth, (clusters,); `wordiness` of its
    answers where it is known. `row` is its place among those that joined.
    """

    row: int
    log_odds: Array
    counts: Array
    wordiness: float | None


@dataclass(frozen=True, slots=True)
class ClusterTable:
    """The fitted table over all known models.

    `cells` are log-odds of the mean quality over a cluster's prompts, (clusters, models); `counts`
    the scores in each. `ability`, `ease` and `spread`, the variance of difficulty within a cluster,
    serve models without outcomes.
    """

    cells: NDArray[np.float32]
    counts: NDArray[np.float32]
    ability: NDArray[np.float32]
    ease: NDArray[np.float32]
    spread: NDArray[np.float32]
    weights: NDArray[np.float32]

    def ability_for(self, quality: float) -> float:
        """The ability whose mean quality over the outcomes' clusters is `quality`."""
        target = min(max(quality, EXTREME), 1.0 - EXTREME)
        low, high = -20.0, 20.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            if float(self.weights @ mean_quality(middle + self.ease, self.spread)) < target:
                low = middle
            else:
                high = middle
        return (low + high) / 2.0

    def prior(self, standings: Sequence[Standing]) -> ClusterPrior:
        """The table for these candidates."""
        log_odds = np.empty((len(self.ease), len(standings)))
        counts = np.zeros_like(log_odds)
        for at, standing in enumerate(standings):
            if standing.joined is not None:
                log_odds[:, at] = standing.joined.log_odds
                counts[:, at] = standing.joined.counts
            elif standing.column is None:
                log_odds[:, at] = log_odds_of(
                    mean_quality(standing.ability + self.ease, self.spread)
                )
            else:
                log_odds[:, at] = self.cells[:, standing.column]
                counts[:, at] = self.counts[:, standing.column]
        quality = sigmoid(log_odds)
        return ClusterPrior(
            log_odds=log_odds,
            quality=quality,
            counts=counts,
            overall=self.weights.astype(np.float64) @ quality,
        )


@dataclass(frozen=True, slots=True)
class ClusterPrior:
    """Mean quality of each candidate in each cluster, (clusters, candidates), also as log-odds, and
    over all prompts.
    """

    log_odds: Array
    quality: Array
    counts: Array
    overall: Array

    def apart(self) -> Array:
        """(candidates,) standard deviation over clusters of each one's quality less the mean of all
        candidates: how far knowing the cluster would move it against the others.
        """
        relative = self.quality - self.quality.mean(axis=1, keepdims=True)
        return np.asarray(relative.std(axis=0))


class ClusterVotes:
    """Which clusters a query belongs to, by the nearest rows."""

    def __init__(self, row_clusters: NDArray[np.uint16], clusters: int, temperature: float) -> None:
        self._row_clusters = row_clusters
        self._clusters = clusters
        self._temperature = temperature

    def shares(self, rows: NDArray[np.int64], similarities: NDArray[np.float32]) -> Array:
        """Each cluster's share, summing to 1. `similarities` fall."""
        votes = np.exp((similarities - similarities[0]) / self._temperature)
        shares = np.bincount(self._row_clusters[rows], votes, self._clusters)
        return np.asarray(shares / shares.sum())


def sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def mean_quality(
    log_odds: Array | NDArray[np.float32], spread: Array | NDArray[np.float32]
) -> Array:
    """Mean of sigmoid(log_odds + d) over difficulties d of variance `spread`.

    MacKay's approximation: prompts of mixed difficulty pull every mean towards a half.
    """
    return sigmoid(np.asarray(log_odds / np.sqrt(1.0 + np.pi / 8.0 * spread), dtype=np.float64))


def log_odds_of(p: Array) -> Array:
    bounded = np.clip(p, EXTREME, 1.0 - EXTREME)
    return np.asarray(np.log(bounded / (1.0 - bounded)))
