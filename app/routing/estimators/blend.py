"""The blend: the smoothed kNN, with linear heads proposing the same two shifts beside it.

Where neighbours are few, heads still know; where a direction is too coarse, neighbours do. Five
weights fitted on out-of-fold predictions say how far to follow the prior and each shift.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.routing.estimators.base import Array
from app.routing.estimators.clusters import Standing, sigmoid
from app.routing.estimators.linear import LinearHeads
from app.routing.estimators.method import Known, Near
from app.routing.estimators.smoothed import SmoothedKnn, bind_smoothed


class Blend:
    """Bound to a route's candidates; see the module. Knows something of every candidate."""

    def __init__(
        self, smoothed: SmoothedKnn, heads: LinearHeads, common: float, own: float
    ) -> None:
        """`common` and `own` say how far to follow the heads' shifts."""
        self._smoothed = smoothed
        self._heads = heads
        self._common = common
        self._own = own

    def quality(self, near: Near) -> Array:
        shift = self._heads.shift(near.vector)
        moved = self._common * shift.common + self._own * shift.own
        return sigmoid(np.asarray(self._smoothed.log_odds(near) + moved))


def bind_blend(known: Known, standings: Sequence[Standing]) -> Blend:
    return Blend(
        bind_smoothed(known, standings),
        LinearHeads.for_candidates(known.arrays["heads"], standings),
        **known.settings["linear"],
    )
