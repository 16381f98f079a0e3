"""Estimates of recent instructions, remembered by the hash of their text.

An estimator is a pure function of the instruction, so the second time costs a look-up. Texts are
not kept.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from app.routing.estimators.base import Estimate, Estimator, Neighbour, Query

_DIGEST_BYTES = 16


class Remembered:
    """Another estimator with a memory for `entries` estimates, the latest used."""

    def __init__(self, estimator: Estimator, entries: int) -> None:
        self._estimator = estimator
        self._entries = entries
        self._estimates: OrderedDict[bytes, Estimate] = OrderedDict()

    def estimate(self, query: Query) -> Estimate:
        if query.vector is None:
            return self._estimator.estimate(query)
        key = blake2b(query.text.encode("utf-8", "replace"), digest_size=_DIGEST_BYTES).digest()
        estimate = self._estimates.get(key)
        if estimate is not None:
            self._estimates.move_to_end(key)
            return estimate
        estimate = self._estimates[key] = self._estimator.estimate(query)
        if len(self._estimates) > self._entries:
            self._estimates.popitem(last=False)
        return estimate

    def neighbours(self, query: Query, count: int) -> tuple[Neighbour, ...]:
        return self._estimator.neighbours(query, count)
