"""The time ranges of the page, and which bucket each is drawn from.

A range begins and ends with a bucket: what it shows is the sum of whole ones, the one that runs
included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Range = Literal["15m", "1h", "24h", "7d", "30d"]
RANGES: tuple[Range, ...] = get_args(Range)
_SHAPES: dict[Range, tuple[int, int, int]] = {
    "15m": (60, 60, 15),
    "1h": (60, 60, 60),
    "24h": (600, 600, 144),
    "7d": (3600, 3600, 168),
    "30d": (3600, 14_400, 180),
}
"""Seconds of a bucket, seconds of a step, steps."""


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds since 1970, `until` not included; `steps` times `step_seconds` long."""

    since: int
    until: int
    bucket_seconds: int
    step_seconds: int

    @classmethod
    def ending(cls, range_: Range, now: float) -> Span:
        bucket, step, steps = _SHAPES[range_]
        until = (int(now) // step + 1) * step
        return cls(until - step * steps, until, bucket, step)

    @property
    def starts(self) -> range:
        """Where each step begins."""
        return range(self.since, self.until, self.step_seconds)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a page shows: a span, of one route or all, of one model (`none`: no model) or all."""

    span: Span
    route: str | None = None
    model: str | None = None

    def admits(self, route: str, model: str) -> bool:
        return self.route in (None, route) and self.model in (None, model)
