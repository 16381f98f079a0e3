"""Counters of this process, for one gateway that needs no server.

Nothing is awaited while counters are read and written, so each reservation is atomic. With several
processes each has an equal share of what was left when it started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import time

from app.state.base import NEVER, Ask, Limit, Outcome, Reading

MINUTE_SECONDS = 60.0
SLOT_WAIT_SECONDS = 1.0
"""Nobody knows when a slot becomes free; a second is soon enough to look again."""
_SWEEP_SECONDS = 60.0
_GRACE_SECONDS = 86_400.0
"""A request may end long after the period that it was reserved in."""


class _Sum:
    """Money. `base` is what had been spent before this process had its share."""

    __slots__ = ("base", "held", "until", "used")

    def __init__(self, until: float | None) -> None:
        self.base = self.used = self.held = 0
        self.until = until


class _Bucket:
    """A rate: what is used flows back, the whole ceiling in a minute."""

    __slots__ = ("at", "used")

    def __init__(self, now: float) -> None:
        self.used = 0.0
        self.at = now

    def drained(self, now: float, ceiling: int) -> float:
        """What is used by now. A clock that went back drains nothing."""
        gone = now - self.at
        if gone > 0:
            self.used = max(self.used - gone * ceiling / MINUTE_SECONDS, 0.0)
        self.at = now
        return self.used


class MemoryState:
    """`share` is how many processes like this one there are; `clock` gives seconds since the
    epoch."""

    away = None

    def __init__(self, share: int = 1, clock: Callable[[], float] = time) -> None:
        self.share = share
        self._clock = clock
        self._sums: dict[str, _Sum] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._slots: dict[str, int] = {}
        self._sweep_at = clock() + _SWEEP_SECONDS

    async def open(self) -> None:
        """Nothing is behind it."""

    async def flush(self) -> None:
        """Nothing is on its way."""

    async def close(self) -> None:
        """Nothing is open."""

    async def reserve(self, id_: str, limits: Sequence[Limit], ask: Ask) -> Outcome:
        return self.take(limits, ask)

    def take(self, limits: Sequence[Limit], ask: Ask) -> Outcome:
        """`reserve`, for who can't wait."""
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep(now)
        readings: list[Reading] = []
        refused: list[int] = []
        for place, limit in enumerate(limits):
            reading = self._reading(limit, now)
            if (wait := _wait(limit, reading, ask)) is not None:
                refused.append(place)
                reading = reading._replace(wait=wait)
            readings.append(reading)
        if refused:
            return Outcome(tuple(readings), tuple(refused))
        for limit in limits:
            self._add(limit, ask)
        return Outcome(tuple([self._reading(limit, now) for limit in limits]))

    async def extend(self, id_: str, limits: Sequence[Limit], asked: Ask, usd: int) -> Outcome:
        return self.raise_to(limits, asked, usd)

    def raise_to(self, limits: Sequence[Limit], asked: Ask, usd: int) -> Outcome:
        """`extend`, for who can't wait."""
        return self.take(
            [limit for limit in limits if limit.kind == "usd"], Ask(usd - asked.usd, 0)
        )

    def settle(self, id_: str, limits: Sequence[Limit], asked: Ask, true: Ask) -> None:
        for limit in limits:
            key = limit.key
            match limit.kind:
                case "usd":
                    if (sum_ := self._sums.get(key)) is not None:
                        sum_.used += true.usd - asked.usd
                        sum_.held -= asked.usd
                case "tokens":
                    if (bucket := self._buckets.get(key)) is not None:
                        bucket.used = max(bucket.used + true.tokens - asked.tokens, 0.0)
                case "parallel":
                    self._slots[key] = max(self._slots.get(key, 0) - 1, 0)

    def occupy(self, limits: Iterable[Limit]) -> None:
        """Count a request in the slots alone, whether they are free or not."""
        for limit in limits:
            if limit.kind == "parallel":
                self._slots[limit.key] = self._slots.get(limit.key, 0) + 1

    def peek(self, limit: Limit, max_age: float = NEVER) -> Reading | None:
        return self._reading(limit, self._clock())

    async def load(self, spent: Iterable[tuple[Limit, int]]) -> None:
        self.know(spent)

    def know(self, spent: Iterable[tuple[Limit, int]]) -> None:
        """`load`, for who can't wait."""
        for limit, amount in spent:
            sum_ = self._sum(limit)
            if amount > sum_.base:
                sum_.used += amount - sum_.base
                sum_.base = amount

    def ceiling(self, limit: Limit) -> int:
        """A limit's share: of money, of what was left at the start; of all else at least one."""
        if self.share == 1:
            return limit.ceiling
        if limit.kind != "usd":
            return max(limit.ceiling // self.share, 1)
        base = self._sum(limit).base
        return base + (limit.ceiling - base) // self.share

    def _reading(self, limit: Limit, now: float) -> Reading:
        ceiling = self.ceiling(limit)
        match limit.kind:
            case "usd":
                sum_ = self._sum(limit)
                return Reading(sum_.used, sum_.held, ceiling)
            case "parallel":
                return Reading(self._slots.get(limit.key, 0), 0, ceiling)
        bucket = self._buckets.get(limit.key)
        if bucket is None:
            bucket = self._buckets[limit.key] = _Bucket(now)
        return Reading(bucket.drained(now, ceiling), 0, ceiling)

    def _sum(self, limit: Limit) -> _Sum:
        sum_ = self._sums.get(limit.key)
        if sum_ is None:
            sum_ = self._sums[limit.key] = _Sum(limit.until)
        return sum_

    def _add(self, limit: Limit, ask: Ask) -> None:
        match limit.kind:
            case "usd":
                sum_ = self._sums[limit.key]
                sum_.used += ask.usd
                sum_.held += ask.usd
            case "parallel":
                self._slots[limit.key] = self._slots.get(limit.key, 0) + 1
            case _:
                self._buckets[limit.key].used += amount(limit, ask)

    def _sweep(self, now: float) -> None:
        """Forget periods that are over, buckets that have run dry and slots that are all free."""
        self._sweep_at = now + _SWEEP_SECONDS
        old = now - _GRACE_SECONDS
        self._sums = {
            key: sum_ for key, sum_ in self._sums.items() if sum_.until is None or sum_.until > old
        }
        self._slots = {key: taken for key, taken in self._slots.items() if taken}
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if bucket.used and now - bucket.at < 2 * MINUTE_SECONDS
        }


def amount(limit: Limit, ask: Ask) -> int:
    """How much of a limit a request takes."""
    match limit.kind:
        case "usd":
            return ask.usd
        case "tokens":
            return ask.tokens
    return 1


def _wait(limit: Limit, reading: Reading, ask: Ask) -> float | None:
    """None if what is asked fits; else in how many seconds it would."""
    more = amount(limit, ask)
    # What is used up is closed to what costs nothing as well.
    over = reading.used + max(more, 1) - reading.ceiling
    if over <= 0:
        return None
    match limit.kind:
        case "usd":
            return 0.0
        case "parallel":
            return SLOT_WAIT_SECONDS
    return NEVER if more > reading.ceiling else over * MINUTE_SECONDS / reading.ceiling
