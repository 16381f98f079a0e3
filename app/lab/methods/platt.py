"""Platt's scaling (1999): predictions become probabilities by a curve of two parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.routing.estimators.base import Array
from app.routing.estimators.clusters import sigmoid

_STEPS = 30
_LARGEST_STEP, _SMALL_STEP = 1.0, 1e-6


@dataclass(frozen=True, slots=True)
class Held:
    """Slope and shift of the curve that few rows change little, and the inverse variances of both
    around it.
    """

    slope: float
    shift: float
    precisions: tuple[float, float]


def fit_platt(predictions: Array, scores: Array, held: Held) -> Array:
    """Slope, not below 0, and shift of least cross-entropy for (n,) predictions and scores from 0
    to 1, which count in part between. By Newton's method.
    """
    start = np.array([held.slope, held.shift])
    precisions = np.array(held.precisions)
    inputs = np.stack([predictions, np.ones_like(predictions)], axis=1)
    found = start.copy()
    for _ in range(_STEPS):
        expected = sigmoid(inputs @ found)
        gradient = inputs.T @ (scores - expected) - precisions * (found - start)
        curvature = (inputs * (expected * (1.0 - expected))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + np.diag(precisions), gradient)
        found += np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        if np.abs(step).max() < _SMALL_STEP:
            break
    return np.array([max(float(found[0]), 0.0), float(found[1])])
