"""Separates how able models are from how hard the prompts are that each happened to be scored on.

score ~ sigmoid(ability of the model + ease of the cluster + bent of the model for the cluster +
difficulty of the row). Without the rows, a model scored only on the hard half of a cluster would
look weak beside one scored on the easy half; models scored on both halves show which is which. Rows
have few scores each, so their difficulty is integrated over, not estimated along: marginal maximum
likelihood by EM (Bock and Aitkin 1981), with Gaussian priors on the rest.

Rows of win rates have no level. Each is taken at an even one, so that it tells how the models in it
differ and nothing else: they move bents, and abilities against each other, as they would if all
else of the row were known.
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
    relative: NDArray[np.bool_] | None = None,
) -> ItemResponse:
    """Positive difficulty is easier than the cluster, as log-odds go. `relative` rows are of win
    rates, and have a difficulty of 0.
    """
    known = _Outcomes(scores, row_clusters, clusters, relative)
    ability, ease = np.zeros(scores.shape[1]), np.zeros(clusters)
    bent = np.zeros((clusters, scores.shape[1]))
    spread = np.full(clusters, _FIRST_SPREAD)
    for _ in range(_ROUNDS):
        cells = ability[None, :] + ease[:, None] + bent
        _improve(ability, ease, bent, known.expect(cells, spread), precisions)
        spread = known.spread()
    cells = ability[None, :] + ease[:, None] + bent
    known.expect(cells, spread)
    return ItemResponse(ability, ease, cells, known.difficulty, spread)


@dataclass(frozen=True, slots=True)
class _Expected:
    """Sums over the posterior in each cell, (clusters, models): of score minus expectation, of
    p(1-p), and of that in rows that have a level.
    """

    surprise: Array
    information: Array
    level: Array


class _Outcomes:
    """The known scores, and each row's posterior over the nodes of its difficulty."""

    def __init__(
        self,
        scores: NDArray[np.float32],
        row_clusters: NDArray[np.intp],
        clusters: int,
        relative: NDArray[np.bool_] | None,
    ) -> None:
        self._rows, self._models = np.nonzero(~np.isnan(scores))
        self._observed = scores[self._rows, self._models].astype(np.float64)
        self._scored, self._first = np.unique(self._rows, return_index=True)
        levelled = np.ones(len(scores)) if relative is None else (~relative).astype(np.float64)
        self._levelled, self._levelled_row = levelled[self._rows], levelled
        self._of_scored = np.searchsorted(self._scored, self._rows)
        self._row_clusters = np.asarray(row_clusters)
        self._cells = self._row_clusters[self._rows] * scores.shape[1] + self._models
        self._shape = (clusters, scores.shape[1])
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        self._nodes, self._log_weights = nodes, np.log(weights / weights.sum())
        self.difficulty = np.zeros(len(scores))
        self._squares = np.zeros(len(scores))

    def expect(self, cells: Array, spread: Array) -> _Expected:
        """The E step."""
        width = np.sqrt(spread)[self._row_clusters] * self._levelled_row
        base = self._without_level(cells.ravel()[self._cells])
        log_odds = base[:, None] + width[self._rows][:, None] * self._nodes
        likelihood = self._observed[:, None] * log_odds - np.logaddexp(0.0, log_odds)
        posterior = np.add.reduceat(likelihood, self._first, axis=0) + self._log_weights
        posterior = np.exp(posterior - posterior.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        self._remember(posterior, width)
        expected = sigmoid(log_odds)
        share = posterior[self._of_scored]
        size = self._shape[0] * self._shape[1]
        surprise = self._without_level(self._observed - (share * expected).sum(axis=1))
        information = (share * expected * (1.0 - expected)).sum(axis=1)
        sums = (
            np.asarray(np.bincount(self._cells, values, size), dtype=np.float64)
            for values in (surprise, information, information * self._levelled)
        )
        return _Expected(*(values.reshape(self._shape) for values in sums))

    def spread(self) -> Array:
        """The variance of difficulty in each cluster, shrunk to the overall one; 0 where all rows
        are of win rates.
        """
        rows = self._scored[self._levelled_row[self._scored] > 0]
        overall = float(self._squares[rows].mean()) if len(rows) else 0.0
        of_cluster = self._row_clusters[rows]
        sums = np.bincount(of_cluster, self._squares[rows], self._shape[0])
        members = np.bincount(of_cluster, minlength=self._shape[0])
        return np.asarray((sums + _SPREAD_ROWS * overall) / (members + _SPREAD_ROWS))

    def _without_level(self, values: Array) -> Array:
        """Values by score, those of a row of win rates less their mean."""
        if self._levelled.all():
            return values
        counts = np.bincount(self._rows, minlength=len(self._levelled_row))
        means = np.bincount(self._rows, values, len(counts)) / np.maximum(counts, 1)
        return np.asarray(values - (1.0 - self._levelled) * means[self._rows])

    def _remember(self, posterior: Array, width: Array) -> None:
        scored = width[self._scored]
        self.difficulty[self._scored] = scored * (posterior @ self._nodes)
        self._squares[self._scored] = scored**2 * (posterior @ self._nodes**2)


def _improve(
    ability: Array,
    ease: Array,
    bent: Array,
    known: _Expected,
    precisions: Precisions,
) -> None:
    """The M step, in place: one Newton step of all cells, shared out between the three parts."""
    moved = np.zeros_like(bent)
    # Rows of win rates do not notice what moves all models of a cluster alike.
    relative = known.information - known.level
    shares = relative / np.maximum(relative.sum(axis=1, keepdims=True), 1e-12)
    for _ in range(_INNER_ROUNDS):
        for part, precision, axis, weight in (
            (ability, precisions.ability, 0, known.information),
            (ease, precisions.ease, 1, known.level),
            (bent, precisions.bent, None, known.information),
        ):
            apart = moved - (shares * moved).sum(axis=1, keepdims=True)
            left = known.surprise - known.level * moved - relative * apart
            if axis is not None:
                left, weight = left.sum(axis=axis), weight.sum(axis=axis)
            step = (left - precision * part) / (weight + precision)
            part += step
            moved += step[:, None] if axis == 1 else step
