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


class _Counter:
    """`used` of a limit. Of money, `held` is reserved and `base` was spent before this process had
    its share. A rate was last drained `at`."""

    __slots__ = ("at", "base", "held", "limit", "used")

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        self.used: float = 0
        self.held = self.base = 0
        self.at = now

    def drain(self, now: float, ceiling: int) -> None:
        """Let flow back what is due by now. A clock that went back gives nothing."""
        gone = now - self.at
        if gone > 0:
            self.used = max(self.used - gone * ceiling / MINUTE_SECONDS, 0.0)
        self.at = now

    def is_over(self, now: float) -> bool:
        """Nobody will ask for it again, or would find it as good as new."""
        match self.limit.kind:
            case "usd":
                return self.limit.until is not None and self.limit.until + _GRACE_SECONDS <= now
            case "parallel":
                return not self.used
        return now - self.at >= 2 * MINUTE_SECONDS


class MemoryState:
    """`share` is how many processes like this one there are; `clock` gives seconds since the
    epoch."""

    away = None

    def __init__(self, share: int = 1, clock: Callable[[], float] = time) -> None:
        self.share = share
        self._clock = clock
        self._counters: dict[str, _Counter] = {}
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
        rows: list[tuple[_Counter, int, int]] = []
        refused: list[int] = []
        for limit in limits:
            counter, ceiling = self._now(limit, now)
            more = amount(limit, ask)
            # What is used up is closed to what costs nothing as well.
            if counter.used + (more or 1) > ceiling:
                refused.append(len(rows))
            rows.append((counter, more, ceiling))
        if refused:
            waits = {place: _wait(*rows[place]) for place in refused}
            readings = [
                Reading(counter.used, counter.held, ceiling, waits.get(place, 0.0))
                for place, (counter, _, ceiling) in enumerate(rows)
            ]
            return Outcome(tuple(readings), tuple(refused))
        readings = []
        for counter, more, ceiling in rows:
            counter.used += more
            if counter.limit.kind == "usd":
                counter.held += more
            readings.append(Reading(counter.used, counter.held, ceiling))
        return Outcome(tuple(readings))

    async def extend(self, id_: str, limits: Sequence[Limit], asked: Ask, usd: int) -> Outcome:
        return self.raise_to([limit for limit in limits if limit.kind == "usd"], asked, usd)

    def raise_to(self, money: Sequence[Limit], asked: Ask, usd: int) -> Outcome:
        """`extend`, for who can't wait and has only limits of money."""
        return self.take(money, Ask(usd - asked.usd, 0))

    def settle(self, id_: str, limits: Sequence[Limit], asked: Ask, true: Ask) -> None:
        for limit in limits:
            counter = self._counters.get(limit.key)
            if counter is None:
                continue
            match limit.kind:
                case "usd":
                    counter.used += true.usd - asked.usd
                    counter.held -= asked.usd
                case "tokens":
                    counter.used = max(counter.used + true.tokens - asked.tokens, 0)
                case "parallel":
                    counter.used = max(counter.used - 1, 0)

    def occupy(self, limits: Iterable[Limit]) -> None:
        """Count a request in the slots alone, whether they are free or not."""
        now = self._clock()
        for limit in limits:
            if limit.kind == "parallel":
                self._now(limit, now)[0].used += 1

    def peek(self, limit: Limit, max_age: float = NEVER) -> Reading | None:
        counter, ceiling = self._now(limit, self._clock())
        return Reading(counter.used, counter.held, ceiling)

    async def load(self, spent: Iterable[tuple[Limit, int]], *, whole: bool = False) -> None:
        if not whole:
            self.know(spent)
            return
        for limit, so_far in spent:
            counter, _ = self._now(limit, self._clock())
            counter.used = max(counter.used, so_far)
            counter.base = int(counter.used)

    def know(self, spent: Iterable[tuple[Limit, int]]) -> None:
        """`load`, for who can't wait."""
        now = self._clock()
        for limit, so_far in spent:
            counter, _ = self._now(limit, now)
            if so_far > counter.base:
                counter.used += so_far - counter.base
                counter.base = so_far

    def _now(self, limit: Limit, now: float) -> tuple[_Counter, int]:
        """A limit's counter as it stands, and its ceiling: of money, a share of what was left at
        the start; of all else a share, but at least one."""
        counter = self._counters.get(limit.key)
        if counter is None:
            counter = self._counters[limit.key] = _Counter(limit, now)
        kind, ceiling = limit.kind, limit.ceiling
        if self.share > 1:
            if kind == "usd":
                ceiling = counter.base + (ceiling - counter.base) // self.share
            else:
                ceiling = max(ceiling // self.share, 1)
        if kind == "requests" or kind == "tokens":
            counter.drain(now, ceiling)
        return counter, ceiling

    def _sweep(self, now: float) -> None:
        """Forget what is over; until then counters are few, one for each limit."""
        self._sweep_at = now + _SWEEP_SECONDS
        kept = {key: one for key, one in self._counters.items() if not one.is_over(now)}
        self._counters = kept


def amount(limit: Limit, ask: Ask) -> int:
    """How much of a limit a request takes."""
    kind = limit.kind
    if kind == "usd":
        return ask.usd
    return ask.tokens if kind == "tokens" else 1


def _wait(counter: _Counter, more: int, ceiling: int) -> float:
    """In how many seconds what does not fit would."""
    match counter.limit.kind:
        case "usd":
            return 0.0
        case "parallel":
            return SLOT_WAIT_SECONDS
    if more > ceiling:
        return NEVER
    return (counter.used + max(more, 1) - ceiling) * MINUTE_SECONDS / ceiling
