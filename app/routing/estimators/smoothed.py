"""The smoothed kNN: a cluster prior, moved by what the neighbourhood shows, added up in log-odds.

The cluster table gives the prior; the neighbourhood proposes a shift common to all candidates and
one of each candidate's own; three weights fitted on out-of-fold predictions say how far to follow.
Plain kNN loses to knowing the task alone on most data; shrunk this way it does not have to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.routing.estimators.base import Array
from app.routing.estimators.clusters import ClusterPrior, Standing, log_odds_of, sigmoid
from app.routing.estimators.knn import LocalEvidence
from app.routing.estimators.method import Known, Near


@dataclass(frozen=True, slots=True)
class SmoothingWeights:
    """How far to follow the prior and each shift."""

    prior: float = 1.0
    common: float = 1.0
    own: float = 0.5


class SmoothedKnn:
    """Bound to a route's candidates; see the module. Knows something of every candidate."""

    def __init__(
        self, prior: ClusterPrior, evidence: LocalEvidence, weights: SmoothingWeights
    ) -> None:
        self._prior = prior
        self._evidence = evidence
        self._weights = weights

    def quality(self, near: Near) -> Array:
        return sigmoid(self.log_odds(near))

    def log_odds(self, near: Near) -> Array:
        local = self._evidence.shift(near.rows, near.weights)
        by = self._weights
        prior = by.prior * log_odds_of(near.shares @ self._prior.quality)
        return np.asarray(prior + by.common * local.common + by.own * local.own)


def bind_smoothed(known: Known, standings: Sequence[Standing]) -> SmoothedKnn:
    prior = known.prior(standings)
    evidence = LocalEvidence(
        known.scores_of(standings),
        prior.log_odds[known.row_clusters],
        known.difficulty.astype(np.float64),
        known.knn,
        known.relative,
    )
    return SmoothedKnn(prior, evidence, SmoothingWeights(**known.settings["smoothing"]))


class ClusterMeans:
    """Quality by the query's clusters alone (Avengers-Pro 2508.12631, UniRoute 2502.08773)."""

    def __init__(self, prior: ClusterPrior) -> None:
        self._prior = prior

    def quality(self, near: Near) -> Array:
        return np.asarray(near.shares @ self._prior.quality)


def bind_clusters(known: Known, standings: Sequence[Standing]) -> ClusterMeans:
    return ClusterMeans(known.prior(standings))
