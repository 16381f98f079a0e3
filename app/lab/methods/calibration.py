"""Calibration curves for predictions that are nearly probabilities: isotonic regression where there
are many outcomes, Platt's scaling where there are few.

A sigmoid bends predictions of which many are near 0 or 1; an isotonic fit follows whatever shape
they have, and jumps where outcomes are few. Each counts by how many there are.
"""

from __future__ import annotations

import numpy as np

from app.lab.methods.platt import Held, fit_platt
from app.routing.estimators.base import Array
from app.routing.estimators.clusters import sigmoid
from app.routing.estimators.levels import knots

PROBABLE = Held(slope=4.0, shift=-2.0, precisions=(0.05, 0.05))
"""The logistic curve that leaves predictions around a half as they are."""

HALFWAY = 300.0
"""With so many outcomes both curves count the same."""


def fit_curve(predictions: Array, scores: Array) -> Array:
    """The calibrated value at each of `levels.knots()`, rising, (KNOTS,), from (n,) predictions of
    prompts that had not been seen, and their scores from 0 to 1. Needs scikit-learn.
    """
    from sklearn.isotonic import IsotonicRegression

    at = knots()
    slope, shift = fit_platt(predictions, scores, PROBABLE)
    smooth = sigmoid(slope * at + shift)
    if not len(scores):
        return smooth
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    steps = fitted.fit(predictions, scores).predict(at)
    part = len(scores) / (len(scores) + HALFWAY)
    return np.asarray(part * steps + (1.0 - part) * smooth)
