"""Separates how able models are from how hard the prompts are that each happened to be scored on.

score ~ sigmoid(ability of the model + ease of the cluster + bent of the model for the cluster +
difficulty of the row). Without the rows, a model scored only on the hard half of a cluster would
look weak beside one scored on the easy half; models scored on both halves show which is which. Rows
have few scores each, so their difficulty is integrated over, not estimated along: marginal maximum
likelihood by EM (Bock and Aitkin 1981), with Gaussian priors on the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array
from app.routing.estimators.clusters import sigmoid

_ROUNDS = 25
_INNER_ROUNDS = 20
_NODES = 9
_FIRST_SPREAD = 1.5
_SPREAD_ROWS = 50.0
"""Rows' worth of the overall spread that a cluster's own is shrunk by."""


@dataclass(frozen=True, slots=True)
class Precisions:
    """Inverse variances of the Gaussian priors, in log-odds: how strongly each part is held to
    zero.
    """

    ability: float = 0.05
    ease: float = 1.0
    bent: float = 5.0


@dataclass(frozen=True, slots=True)
class ItemResponse:
    """The fit. `cells` = ability + ease + bent, (clusters, models), is for a prompt of the
    cluster's usual difficulty;
    `difficulty` is each row's posterior mean, `spread` the variance of difficulty in each
    cluster."""

    ability: Array
    ease: Array
    cells: Array
    difficulty: Array
    spread: Array


def fit_item_response(
    scores: NDArray[np.float32],
    row_clusters: NDArray[np.intp],
    clusters: int,
    precisions: Precisions,
) -> ItemResponse:
    """Positive difficulty is easier than the cluster, as log-odds go."""
    known = _Outcomes(scores, row_clusters, clusters)
    ability, ease = np.zeros(scores.shape[1]), np.zeros(clusters)
    bent = np.zeros((clusters, scores.shape[1]))
    spread = np.full(clusters, _FIRST_SPREAD)
    for _ in range(_ROUNDS):
        cells = ability[None, :] + ease[:, None] + bent
        surprise, information = known.expect(cells, spread)
        _improve(ability, ease, bent, surprise, information, precisions)
        spread = known.spread()
    cells = ability[None, :] + ease[:, None] + bent
    known.expect(cells, spread)
    return ItemResponse(ability, ease, cells, known.difficulty, spread)


class _Outcomes:
    """The known scores, and each row's posterior over the nodes of its difficulty."""

    def __init__(
        self, scores: NDArray[np.float32], row_clusters: NDArray[np.intp], clusters: int
    ) -> None:
        self._rows, self._models = np.nonzero(~np.isnan(scores))
        self._observed = scores[self._rows, self._models].astype(np.float64)
        self._scored, self._first = np.unique(self._rows, return_index=True)
        self._of_scored = np.searchsorted(self._scored, self._rows)
        self._row_clusters = np.asarray(row_clusters)
        self._cells = self._row_clusters[self._rows] * scores.shape[1] + self._models
        self._shape = (clusters, scores.shape[1])
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        self._nodes, self._log_weights = nodes, np.log(weights / weights.sum())
        self.difficulty = np.zeros(len(scores))
        self._squares = np.zeros(len(scores))

    def expect(self, cells: Array, spread: Array) -> tuple[Array, Array]:
        """The E step: each cell's sum of score minus expectation, and of p(1-p), over the
        posterior.
        """
        width = np.sqrt(spread)[self._row_clusters]
        base = cells.ravel()[self._cells]
        log_odds = base[:, None] + width[self._rows][:, None] * self._nodes
        likelihood = self._observed[:, None] * log_odds - np.logaddexp(0.0, log_odds)
        posterior = np.add.reduceat(likelihood, self._first, axis=0) + self._log_weights
        posterior = np.exp(posterior - posterior.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        self._remember(posterior, width)
        expected = sigmoid(log_odds)
        share = posterior[self._of_scored]
        size = self._shape[0] * self._shape[1]
        surprise = self._observed - (share * expected).sum(axis=1)
        information = (share * expected * (1.0 - expected)).sum(axis=1)
        sums = (np.bincount(self._cells, values, size) for values in (surprise, information))
        first, second = (np.asarray(s, dtype=np.float64).reshape(self._shape) for s in sums)
        return first, second

    def spread(self) -> Array:
        """The variance of difficulty in each cluster, shrunk to the overall one."""
        overall = float(self._squares[self._scored].mean())
        of_cluster = self._row_clusters[self._scored]
        sums = np.bincount(of_cluster, self._squares[self._scored], self._shape[0])
        members = np.bincount(of_cluster, minlength=self._shape[0])
        return np.asarray((sums + _SPREAD_ROWS * overall) / (members + _SPREAD_ROWS))

    def _remember(self, posterior: Array, width: Array) -> None:
        scored = width[self._scored]
        self.difficulty[self._scored] = scored * (posterior @ self._nodes)
        self._squares[self._scored] = scored**2 * (posterior @ self._nodes**2)


def _improve(
    ability: Array,
    ease: Array,
    bent: Array,
    surprise: Array,
    information: Array,
    precisions: Precisions,
) -> None:
    """The M step, in place: one Newton step of all cells, shared out between the three parts."""
    moved = np.zeros_like(bent)
    for _ in range(_INNER_ROUNDS):
        for part, precision, axis in (
            (ability, precisions.ability, 0),
            (ease, precisions.ease, 1),
            (bent, precisions.bent, None),
        ):
            left, weight = surprise - information * moved, information
            if axis is not None:
                left, weight = left.sum(axis=axis), weight.sum(axis=axis)
            step = (left - precision * part) / (weight + precision)
            part += step
            moved += step[:, None] if axis == 1 else step
