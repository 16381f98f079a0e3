"""The level of qualities: calibration curves, and qualities from differences for methods that learn
which of two models is better and not how good either is.
"""

from __future__ import annotations

import numpy as np

from app.routing.estimators.base import Array

LOWEST, HIGHEST, KNOTS = -0.25, 1.25, 61
"""Predictions before calibration go a little beyond 0 to 1; a curve is kept at so many of them."""

_STEP = (HIGHEST - LOWEST) / (KNOTS - 1)


def knots() -> Array:
    """The predictions at which a calibration curve is kept, (KNOTS,)."""
    return np.linspace(LOWEST, HIGHEST, KNOTS)


def calibrated(curves: Array, raw: Array) -> Array:
    """The value of each model's curve, (m, KNOTS), at its prediction (m,); straight between knots,
    and level beyond them.
    """
    place = np.clip((raw - LOWEST) / _STEP, 0.0, KNOTS - 1.000001)
    below = place.astype(np.intp)
    part = place - below
    models = np.arange(len(raw))
    return np.asarray((1.0 - part) * curves[models, below] + part * curves[models, below + 1])


def around(level: float, differences: Array) -> Array:
    """Qualities with these differences and, where 0 to 1 allows it, this mean.

    The level gives way before a difference does, so that the gain of a pair, by which a route
    ranks its prompts, stays what the method said; only what spans more than 0 to 1 is narrowed.
    """
    centred = differences - differences.mean()
    span = float(np.ptp(centred))
    if span > 1.0:
        centred = centred / span
    low, high = -float(centred.min()), 1.0 - float(centred.max())
    return np.asarray(np.clip(min(max(level, low), high) + centred, 0.0, 1.0))
