"""Estimates of recent instructions, remembered by the hash of their text.

An estimator is a pure function of the instruction, so the second time costs a look-up. Estimates
from the words alone are remembered apart from full ones, which are better where there is one.
Texts are not kept.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from app.routing.estimators.base import Estimate, Estimator, Neighbour, Query

_DIGEST_BYTES = 16


class Remembered:
    """Another estimator with a memory for `entries` estimates of each kind, the latest used."""

    def __init__(self, estimator: Estimator, entries: int) -> None:
        self.reads_text = estimator.reads_text
        self._estimator = estimator
        self._full = _Memory(entries)
        self._from_text = _Memory(entries)

    def estimate(self, query: Query) -> Estimate:
        if query.vector is None and not self.reads_text:
            return self._estimator.estimate(query)
        key = blake2b(query.text.encode("utf-8", "replace"), digest_size=_DIGEST_BYTES).digest()
        known = self._full.get(key)
        if known is None and query.vector is None:
            known = self._from_text.get(key)
        if known is None:
            known = self._estimator.estimate(query)
            (self._from_text if query.vector is None else self._full).put(key, known)
        return known

    def neighbours(self, query: Query, count: int) -> tuple[Neighbour, ...]:
        return self._estimator.neighbours(query, count)


class _Memory:
    """Estimates by digest; the least lately used is forgotten first."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._known: OrderedDict[bytes, Estimate] = OrderedDict()

    def get(self, key: bytes) -> Estimate | None:
        estimate = self._known.get(key)
        if estimate is not None:
            self._known.move_to_end(key)
        return estimate

    def put(self, key: bytes, estimate: Estimate) -> None:
        self._known[key] = estimate
        if len(self._known) > self._entries:
            self._known.popitem(last=False)
