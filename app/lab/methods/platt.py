"""Platt's scaling: a score becomes a probability by a logistic curve of two parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.routing.estimators.base import Array

USUAL_SLOPE = 4.0
"""Of a score that is a probability already: the logistic curve has this slope at one half."""

_PRECISION = 0.05
_STEPS = 25


def fit_platt(raw: Array, scores: NDArray[np.float32]) -> Array:
    """Slope and intercept (m, 2) for predictions and outcomes (n, m), the latter nan where unknown.

    Maximum likelihood (Platt 1999), outcomes between 0 and 1 counting in part, held lightly to a
    curve through (one half, one half), so that a model that is always right gets a finite one.
    """
    return np.array([_fit_one(raw[:, at], scores[:, at]) for at in range(raw.shape[1])])


def _fit_one(raw: Array, scores: NDArray[np.float32]) -> Array:
    known = ~np.isnan(scores)
    inputs = np.stack([raw[known], np.ones(int(known.sum()))], axis=1)
    observed = scores[known].astype(np.float64)
    usual = np.array([USUAL_SLOPE, -USUAL_SLOPE / 2.0])
    found = usual.copy()
    for _ in range(_STEPS):
        expected = 1.0 / (1.0 + np.exp(-np.clip(inputs @ found, -30.0, 30.0)))
        gradient = inputs.T @ (observed - expected) - _PRECISION * (found - usual)
        weights = expected * (1.0 - expected)
        curvature = (inputs * weights[:, None]).T @ inputs + _PRECISION * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        found = found + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-6:
            break
    found[0] = max(found[0], 0.0)
    return found
