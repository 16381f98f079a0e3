"""Asking again: after how long, and whether the load that it adds is still within its budget; that
of hedges has one of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

_FLOOR = 10.0
"""Retries that a deployment with little traffic always has in hand."""
_FLOOR_PER_SECOND = 0.5
_CEILING = 100.0
"""What a busy deployment may have saved up: a burst, and not an hour's worth."""


class LoadBudget:
    """How many attempts may still be sent beside first ones. Each request adds a share of one; a
    floor that fills up by itself keeps low traffic able to retry."""

    __slots__ = ("_at", "_ceiling", "_clock", "_floor", "left")

    def __init__(
        self, clock: Callable[[], float], *, floor: float = _FLOOR, ceiling: float = _CEILING
    ) -> None:
        self._clock = clock
        self._floor, self._ceiling = floor, ceiling
        self._at = clock()
        self.left = floor

    def deposit(self, share: float) -> None:
        """A request was sent for the first time."""
        self.left = min(self.left + share, self._ceiling)

    def withdraw(self) -> bool:
        """Take one, if there is one."""
        now = self._clock()
        if self.left < self._floor:
            self.left = min(self.left + max(now - self._at, 0.0) * _FLOOR_PER_SECOND, self._floor)
        self._at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


def decorrelated(random: Random, base: float, longest: float, before: float) -> float:
    """Seconds to wait, by the wait before (`base` at first): somewhere between the base and three
    times that. Requests that failed together do not come again together."""
    return min(longest, random.uniform(base, max(before * 3, base)))
