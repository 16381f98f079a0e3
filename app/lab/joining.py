"""A new model from a few hundred scored prompts, as what a trained router knows of others.

UniRoute (2502.08773) describes a new model by its errors in clusters of prompts. A few prompts a
cluster say little of each; what known models score there says which patterns of strength exist. So
the new model's log-odds are a linear function of theirs, under the prior that it is one more draw
from their population: the mean of all, with a slope near 1, plus deviations as known models have
them, held to zero; and a head on the vector, held more tightly, for what no known model has.

Much of what a single score says is how hard its prompt happened to be. Where known models were
scored on the same prompts, by how much they did better or worse there than predicted is fitted
beside the rest and then integrated out, which leaves less noise in two hundred scores. The
penalties were chosen on models that joined without being of any pair that is reported
(`benchmarks/joining.py`); to choose them anew on the two hundred prompts at hand did worse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.lab.fit import Vectors
from app.lab.ground import fold_of
from app.routing.estimators.base import Array
from app.routing.estimators.clusters import sigmoid

FOLDS = 5
_ROUNDS = 40
_LARGEST_STEP = 2.0
_LEAST_INFORMATION = 1e-4


@dataclass(frozen=True, slots=True)
class JoinSettings:
    """Precisions of the priors: of the common slope around 1; of each known model's weight, for
    every known model; of each of the head's numbers; of how far the score follows a prompt's
    surprise. `kappa` is the information against which that is shrunk.
    """

    slope: float = 20.0
    weight: float = 0.25
    head: float = 5.0
    surprise: float = 1.0
    kappa: float = 0.5


@dataclass(frozen=True, slots=True)
class FittedMixture:
    """`weights` (models,); `head` (d,), and what to subtract from its product."""

    weights: Array
    bias: float
    head: NDArray[np.float32]
    centre: float

    def log_odds(self, known: Array, vectors: Vectors) -> Array:
        """(n,) from the known models' (n, models) and the prompts' vectors (n, d)."""
        own = vectors.astype(np.float64) @ self.head.astype(np.float64) - self.centre
        return self.by_words(known) + own

    def by_words(self, known: Array) -> Array:
        """(n,) without vectors."""
        return np.asarray(known @ self.weights + self.bias)


def fit_mixture(
    known: Array, others: Array, scores: Array, vectors: Vectors, settings: JoinSettings
) -> FittedMixture:
    """`known` (n, models) are log-odds of predicted quality and `others` what was scored there, nan
    where nothing was; `scores` (n,) are the new model's.
    """
    mean = known.mean(axis=1, keepdims=True)
    patterns = _Directions(known - mean)
    places = _Directions(vectors.astype(np.float64) - vectors.mean(axis=0))
    surprise = _surprise(known, others, settings.kappa)
    count = known.shape[1]
    penalty = np.concatenate(
        (
            [settings.slope],
            np.full(patterns.rank, settings.weight * count),
            np.full(places.rank, settings.head),
            [settings.surprise],
        )
    )
    target = np.zeros(len(penalty))
    target[0] = 1.0
    found, bias = _logistic(
        np.hstack((mean, patterns.scores, places.scores, surprise)), scores, penalty, target
    )
    # Of a new prompt the surprise is unknown, and not to know it pulls quality towards a half.
    pull = _pull(found[-1] * surprise)
    found, bias = pull * found, pull * bias
    deviation = patterns.back(found[1 : 1 + patterns.rank])
    head = places.back(found[1 + patterns.rank : -1]).astype(np.float32)
    own = vectors.astype(np.float64) @ head.astype(np.float64)
    return FittedMixture(
        weights=found[0] / count + deviation - deviation.mean(),
        bias=bias,
        head=head,
        centre=float(own.mean()),
    )


@dataclass(frozen=True, slots=True)
class JoinLosses:
    """Mean log-losses; all but the first are cross-validated by question."""

    fitted: float
    cross_validated: float
    best_known: int
    best_known_cross_validated: float
    mean_alone: float


def losses(
    prompts: Sequence[str],
    known: Array,
    others: Array,
    scores: Array,
    vectors: Vectors,
    settings: JoinSettings,
    advance: Callable[[int], None] = lambda done: None,
) -> JoinLosses:
    """How well joining does on these prompts, beside simpler ways. `advance` counts `FOLDS`."""
    folds = fold_of(prompts, FOLDS, seed=0)
    joined, like, mean = np.zeros((3, len(scores)))
    for fold in range(FOLDS):
        test, train = folds == fold, folds != fold
        if test.any() and train.any():
            fitted = fit_mixture(
                known[train], others[train], scores[train], vectors[train], settings
            )
            joined[test] = fitted.log_odds(known[test], vectors[test])
            nearest, shift = _nearest_known(known[train], scores[train])
            like[test] = known[test, nearest] + shift
            mean[test] = _shifts(np.zeros((int(train.sum()), 1)), scores[train])[0]
        advance(1)
    whole = fit_mixture(known, others, scores, vectors, settings)
    return JoinLosses(
        fitted=_log_loss(whole.log_odds(known, vectors), scores),
        cross_validated=_log_loss(joined, scores),
        best_known=_nearest_known(known, scores)[0],
        best_known_cross_validated=_log_loss(like, scores),
        mean_alone=_log_loss(mean, scores),
    )


def _surprise(known: Array, others: Array, kappa: float) -> Array:
    """(n, 1) by how much known models did better than predicted on each prompt, in log-odds, less
    its mean; one Newton step, 0 where none was scored.
    """
    scored = ~np.isnan(others)
    expected = sigmoid(known)
    off = np.where(scored, others - expected, 0.0).sum(axis=1)
    information = np.where(scored, expected * (1.0 - expected), 0.0).sum(axis=1)
    step = off / (information + kappa)
    return np.asarray((step - step.mean())[:, None])


def _pull(unknown: Array) -> float:
    """MacKay's factor for log-odds of which a part is unknown, but for its variance."""
    return float(1.0 / np.sqrt(1.0 + np.pi / 8.0 * unknown.var()))


class _Directions:
    """Columns (n, k) turned to their principal directions, of which n rows have n at most: a ridge
    on these is the same ridge on the columns.
    """

    def __init__(self, columns: Array) -> None:
        left, sizes, self._right = np.linalg.svd(columns, full_matrices=False)
        self.rank = int((sizes > 1e-9 * max(1.0, float(sizes.max(initial=0.0)))).sum())
        self.scores = left[:, : self.rank] * sizes[: self.rank]

    def back(self, weights: Array) -> Array:
        """Weights of the columns from those of the directions."""
        return np.asarray(self._right[: self.rank].T @ weights)


def _logistic(columns: Array, scores: Array, penalty: Array, target: Array) -> tuple[Array, float]:
    """Weights and bias by Newton's method; the bias is held by next to nothing."""
    width = len(penalty)
    held = np.append(penalty, 1e-2)
    goal = np.append(target, 0.0)
    with_bias = np.hstack((columns, np.ones((len(columns), 1))))
    weights = goal.copy()
    for _ in range(_ROUNDS):
        expected = sigmoid(with_bias @ weights)
        information = np.maximum(expected * (1.0 - expected), _LEAST_INFORMATION)
        slope = with_bias.T @ (expected - scores) + held * (weights - goal)
        curvature = (with_bias * information[:, None]).T @ with_bias
        curvature[np.diag_indices_from(curvature)] += held
        step = np.linalg.solve(curvature, slope)
        largest = float(np.abs(step).max())
        weights = weights - step * min(1.0, _LARGEST_STEP / max(largest, 1e-12))
        if largest < 1e-8:
            break
    return weights[:width], float(weights[width])


def _nearest_known(known: Array, scores: Array) -> tuple[int, float]:
    """The known model whose predictions say the scores best with one shift, and the shift."""
    shifts = _shifts(known, scores)
    found = [_log_loss(known[:, at] + shift, scores) for at, shift in enumerate(shifts)]
    best = int(np.argmin(found))
    return best, float(shifts[best])


def _shifts(known: Array, scores: Array) -> Array:
    """For each column the bias that makes its mean the scores'."""
    shifts = np.zeros(known.shape[1])
    for _ in range(_ROUNDS):
        expected = sigmoid(known + shifts)
        information = np.maximum((expected * (1.0 - expected)).sum(axis=0), _LEAST_INFORMATION)
        step = (scores[:, None] - expected).sum(axis=0) / information
        shifts = np.clip(shifts + np.clip(step, -_LARGEST_STEP, _LARGEST_STEP), -20.0, 20.0)
    return shifts


def _log_loss(log_odds: Array, scores: Array) -> float:
    return float(np.mean(np.logaddexp(0.0, log_odds) - scores * log_odds))
