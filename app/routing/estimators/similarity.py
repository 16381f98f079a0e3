"""RouteLLM's similarity-weighted ranking (Ong et al. 2024, arXiv 2406.18665): for each query a
Bradley-Terry model of who beats whom, in which comparisons on prompts like it weigh more.

The paper fits it on all comparisons, without any prior, at a third of a second a request.
Here it is fitted on the nearest known prompts alone, and held to what the clusters say by a ridge,
so that few comparisons make no model unbeatable. Weights are the paper's, but for a constant. Any
number of models; a comparison is a pair of scores on one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array
from app.routing.estimators.clusters import ClusterPrior, Standing
from app.routing.estimators.knn import MISSING, SCORE_STEPS
from app.routing.estimators.levels import around
from app.routing.estimators.method import Known, Near

_NEWTON_STEPS = 6
_LARGEST_GAIN = 0.98
_LARGEST_STEP, _SMALL_STEP = 2.0, 1e-3


class Comparisons:
    """Who did better than whom, by row: a win counts one, a tie half, and partial scores in
    between: (1 + own score - other's) / 2.

    A row in which k models were scored has k(k-1)/2 comparisons, and each weighs 1/(k-1), so that
    a row with many models outweighs no more than its models do.
    """

    def __init__(self, scores: NDArray[np.uint8]) -> None:
        """`scores` quantised, (rows, M)."""
        known = scores != MISSING
        share = 1.0 / np.maximum(known.sum(axis=1, keepdims=True) - 1, 1)
        self._known = known.astype(np.float32)
        self._weighted = (known * share).astype(np.float32)
        self._scored = np.where(known, scores / SCORE_STEPS * share, 0.0).astype(np.float32)

    def sums(self, rows: NDArray[np.int64], weights: NDArray[np.float32]) -> tuple[Array, Array]:
        """Weighted sums of comparisons and of wins, (M, M): wins of the row's model over the
        column's.
        """
        known = self._known[rows]
        other = known * weights[:, None]
        met = (self._weighted[rows].T @ other).astype(np.float64)
        scored = (self._scored[rows].T @ other).astype(np.float64)
        np.fill_diagonal(met, 0.0)
        return met, np.asarray(0.5 * (met + scored - scored.T))


class SimilarityWeighted:
    """Bound to a route's candidates; see the module. Knows something of every candidate.

    Strengths come out as log-odds of winning, a tie counting half a win, so the expected difference
    of two scores is 2 P(win) - 1. Each candidate's quality lies off the mean of what the clusters
    say of all of them by its mean expected difference to the others. For a pair the gain is thus
    exactly 2 P(strong wins) - 1, and ranks as the paper's win rate.
    """

    def __init__(self, comparisons: Comparisons, prior: ClusterPrior, ridge: float) -> None:
        self._comparisons = comparisons
        self._prior = prior
        self._ridge = ridge

    def quality(self, near: Near) -> Array:
        met, won = self._comparisons.sums(near.rows, weights_of(near.similarities))
        prior = near.shares @ self._prior.quality
        strengths = fit_strengths(met, won, prior_strengths(prior), self._ridge)
        gains = np.tanh(0.5 * (strengths[:, None] - strengths[None, :]))
        return around(float(prior.mean()), gains.mean(axis=1))


def weights_of(similarities: NDArray[np.float32]) -> NDArray[np.float32]:
    """The paper's 10 x 10^(similarity / largest), over 100: the nearest weighs 1. `similarities`
    fall along the last axis.
    """
    largest = np.maximum(similarities[..., :1], 1e-6)
    return np.asarray(10.0 ** (np.maximum(similarities / largest, -1.0) - 1.0), dtype=np.float32)


def prior_strengths(quality: Array) -> Array:
    """Strengths (..., M) with which models of such quality expect about the differences that they
    have.
    """
    off = quality - quality.mean(axis=-1, keepdims=True)
    return np.asarray(2.0 * np.arctanh(np.clip(off, -_LARGEST_GAIN, _LARGEST_GAIN)))


def fit_strengths(met: Array, won: Array, prior: Array, ridge: float) -> Array:
    """Strengths (..., M) of most likelihood less `ridge` / 2 times the squared distance to `prior`,
    from sums of comparisons and wins (..., M, M). Newton's method, for any number of queries.
    """
    strengths = prior.copy()
    identity = np.eye(prior.shape[-1])
    for _ in range(_NEWTON_STEPS):
        expected = 0.5 * (1.0 + np.tanh(0.5 * (strengths[..., :, None] - strengths[..., None, :])))
        surprise = (won - met * expected).sum(axis=-1) - ridge * (strengths - prior)
        information = met * expected * (1.0 - expected)
        curvature = (information.sum(axis=-1) + ridge)[..., None] * identity - information
        step = np.linalg.solve(curvature, surprise[..., None])[..., 0]
        strengths = strengths + np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        if np.abs(step).max(initial=0.0) < _SMALL_STEP:
            break
    return np.asarray(strengths)


def bind_similarity(known: Known, standings: Sequence[Standing]) -> SimilarityWeighted:
    return SimilarityWeighted(
        Comparisons(known.scores_of(standings)),
        known.prior(standings),
        float(known.settings["ridge"]),
    )
