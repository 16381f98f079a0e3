"""How long a deployment's answers took to begin lately: what is late is told by it."""

from __future__ import annotations

from collections import deque
from math import ceil

LEAST_TIMES = 20
"""Fewer say nothing of what is usual."""
_MOST_TIMES = 200
_FORGOTTEN_SECONDS = 900.0


class RecentTimes:
    """The last 200 of a quarter of an hour."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[tuple[float, float]] = deque(maxlen=_MOST_TIMES)

    def add(self, seconds: float, now: float) -> None:
        self._times.append((now, seconds))

    def percentile(self, percent: float, now: float) -> float | None:
        """The time that so many percent of them don't exceed; None while too few are known."""
        since = now - _FORGOTTEN_SECONDS
        while self._times and self._times[0][0] < since:
            self._times.popleft()
        if len(self._times) < LEAST_TIMES:
            return None
        ranked = sorted(seconds for _, seconds in self._times)
        return ranked[max(ceil(len(ranked) * percent / 100) - 1, 0)]
