"""Days, weeks and months of UTC: what a budget is for, and when it begins anew."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

PeriodName = Literal["day", "week", "month", "all"]


@dataclass(frozen=True, slots=True)
class Period:
    """One period; `label` tells it from others of its name. Times in seconds since the epoch;
    `until` is None where it has no end."""

    name: PeriodName
    label: str
    start: float
    until: float | None


def periods(now: float) -> dict[PeriodName, Period]:
    """The periods that a moment lies in."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = today - timedelta(days=today.weekday())
    first = today.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return {
        "day": _period("day", f"{today:%Y-%m-%d}", today, today + timedelta(days=1)),
        "week": _period("week", f"{monday:%G-W%V}", monday, monday + timedelta(days=7)),
        "month": _period("month", f"{first:%Y-%m}", first, following),
        "all": Period("all", "all", 0.0, None),
    }


def _period(name: PeriodName, label: str, start: datetime, until: datetime) -> Period:
    return Period(name, label, start.timestamp(), until.timestamp())
