"""Qualities from differences, for methods that learn which of two models is better and not how good
either is.
"""

from __future__ import annotations

import numpy as np

from app.routing.estimators.base import Array


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
