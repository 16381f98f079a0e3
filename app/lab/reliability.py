"""Whether predicted quality can be taken at its word: of answers given .7, are seven in ten right?

Scores may lie between 0 and 1; a score of .8 then counts as .8 of a right answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BINS = 15
"""Of equal width, as in most published figures; other bins give other ECEs."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of one bin: how many, their mean, and the mean score they met."""

    count: int
    predicted: float
    observed: float


def reliability(predicted: Array, scores: Array, bins: int = BINS) -> list[Bin]:
    """Bins of equal width over [0, 1] that hold any prediction, from low to high."""
    place = np.minimum((predicted * bins).astype(np.intp), bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = np.flatnonzero(count)
    mean = np.bincount(place, predicted, bins)[filled] / count[filled]
    met = np.bincount(place, scores, bins)[filled] / count[filled]
    return [
        Bin(int(n), float(p), float(y)) for n, p, y in zip(count[filled], mean, met, strict=True)
    ]


def ece(predicted: Array, scores: Array, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of prediction and outcome over the bins, weighted
    by how many predictions they hold.
    """
    parts = reliability(predicted, scores, bins)
    return sum(part.count * abs(part.predicted - part.observed) for part in parts) / len(predicted)


def brier(predicted: Array, scores: Array) -> float:
    """Mean squared error of the predictions."""
    return float(np.mean((predicted - scores) ** 2))


def auroc(predicted: Array, scores: Array) -> float:
    """Chance that a right answer was given more than a wrong one, ties half. nan with one kind
    only.
    """
    right, wrong = float(scores.sum()), float((1 - scores).sum())
    if right <= 0 or wrong <= 0:
        return float("nan")
    _, place = np.unique(predicted, return_inverse=True)
    right_at, wrong_at = np.bincount(place, scores), np.bincount(place, 1 - scores)
    below = np.cumsum(wrong_at) - wrong_at
    return float((right_at * (below + wrong_at / 2)).sum() / (right * wrong))
