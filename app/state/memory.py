"""Counters of this process, for one gateway that needs no server.

Nothing is awaited while counters are read and written, so each reservation is atomic. With several
processes each has an equal share of what was left when it started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import time

from app.state.base import NEVER, Ask, Kind, Limit, Outcome, Reading

MINUTE_SECONDS = 60.0
SLOT_WAIT_SECONDS = 1.0
"""Nobody knows when a slot becomes free; a second is soon enough to look again."""
_REMEMBERED = 4_096
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


Row = tuple[_Counter, Kind, int]
"""A limit's counter, its kind, and its ceiling in this process."""


class MemoryState:
    """`share` is how many processes like this one there are; `clock` gives seconds since the
    epoch."""

    away = None

    def __init__(self, share: int = 1, clock: Callable[[], float] = time) -> None:
        self.share = share
        self._clock = clock
        self._counters: dict[str, _Counter] = {}
        self._known: dict[int, tuple[Sequence[Limit], list[Row]]] = {}
        """Rows of the same tuples of limits, which come often."""
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
        rows = self._rows(limits, now)
        usd, tokens = ask
        for counter, kind, ceiling in rows:
            more = 1
            if kind == "usd":
                more = usd
            elif kind != "parallel":
                counter.drain(now, ceiling)
                if kind == "tokens":
                    more = tokens
            # What is used up is closed to what costs nothing as well.
            if counter.used + (more or 1) > ceiling:
                return self._refusal(limits, rows, ask, now)
        readings = []
        for counter, kind, ceiling in rows:
            if kind == "usd":
                counter.used += usd
                counter.held += usd
            else:
                counter.used += tokens if kind == "tokens" else 1
            readings.append(Reading(counter.used, counter.held, ceiling))
        return Outcome(tuple(readings))

    def _refusal(self, limits: Sequence[Limit], rows: list[Row], ask: Ask, now: float) -> Outcome:
        """How everything stands, and what has no room."""
        readings, refused = [], []
        for place, (limit, (counter, kind, ceiling)) in enumerate(zip(limits, rows, strict=True)):
            if kind == "requests" or kind == "tokens":
                counter.drain(now, ceiling)
            more, wait = amount(limit, ask), 0.0
            if counter.used + (more or 1) > ceiling:
                refused.append(place)
                wait = _wait(counter, more, ceiling)
            readings.append(Reading(counter.used, counter.held, ceiling, wait))
        return Outcome(tuple(readings), tuple(refused))

    async def extend(self, id_: str, limits: Sequence[Limit], asked: Ask, usd: int) -> Outcome:
        return self.raise_to([limit for limit in limits if limit.kind == "usd"], asked, usd)

    def raise_to(self, money: Sequence[Limit], asked: Ask, usd: int) -> Outcome:
        """`extend`, for who can't wait and has only limits of money."""
        return self.take(money, Ask(usd - asked.usd, 0))

    def settle(self, id_: str, limits: Sequence[Limit], asked: Ask, true: Ask) -> None:
        usd, tokens = true.usd - asked.usd, true.tokens - asked.tokens
        for counter, kind, _ in self._remembered(limits) or self._there(limits):
            if kind == "usd":
                counter.used += usd
                counter.held -= asked.usd
            elif kind == "tokens":
                counter.used = max(counter.used + tokens, 0)
            elif kind == "parallel":
                counter.used = max(counter.used - 1, 0)

    def occupy(self, limits: Iterable[Limit]) -> None:
        """Count a request in the slots alone, whether they are free or not."""
        now = self._clock()
        for limit in limits:
            if limit.kind == "parallel":
                self._now(limit, now)[0].used += 1

    def may_be_full(self, limits: Sequence[Limit], max_age: float = NEVER) -> bool:
        # A rate that was not drained looks fuller than it is, never emptier.
        for counter, _, ceiling in self._rows(limits, self._clock()):
            if counter.used >= ceiling - 1:
                return True
        return False

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
            self._known.clear()  # a share is of what was left

    def know(self, spent: Iterable[tuple[Limit, int]]) -> None:
        """`load`, for who can't wait."""
        now = self._clock()
        for limit, so_far in spent:
            counter, _ = self._now(limit, now)
            if so_far > counter.base:
                counter.used += so_far - counter.base
                counter.base = so_far
                self._known.clear()  # a share is of what was left

    def _now(self, limit: Limit, now: float) -> tuple[_Counter, int]:
        """A limit's counter as it stands, and its ceiling."""
        counter, kind, ceiling = self._row(limit, now)
        if kind == "requests" or kind == "tokens":
            counter.drain(now, ceiling)
        return counter, ceiling

    def part(self, limit: Limit) -> int:
        """This process's part of a limit's ceiling."""
        return self._row(limit, self._clock())[2]

    def _row(self, limit: Limit, now: float) -> Row:
        """The ceiling is, of money, a share of what was left at the start; of all else a share, but
        at least one."""
        counter = self._counters.get(limit.key)
        if counter is None:
            counter = self._counters[limit.key] = _Counter(limit, now)
        kind, ceiling = limit.kind, limit.ceiling
        if self.share > 1:
            if kind == "usd":
                ceiling = counter.base + (ceiling - counter.base) // self.share
            else:
                ceiling = max(ceiling // self.share, 1)
        return counter, kind, ceiling

    def _rows(self, limits: Sequence[Limit], now: float) -> list[Row]:
        rows = self._remembered(limits)
        if rows is None:
            rows = [self._row(limit, now) for limit in limits]
            if isinstance(limits, tuple):  # which can't change
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[id(limits)] = (limits, rows)
        return rows

    def _remembered(self, limits: Sequence[Limit]) -> list[Row] | None:
        known = self._known.get(id(limits))
        return known[1] if known is not None and known[0] is limits else None

    def _there(self, limits: Sequence[Limit]) -> Iterator[Row]:
        """Of counters that have not been forgotten."""
        for limit in limits:
            counter = self._counters.get(limit.key)
            if counter is not None:
                yield counter, limit.kind, limit.ceiling

    def _sweep(self, now: float) -> None:
        """Forget what is over; until then counters are few, one for each limit."""
        self._sweep_at = now + _SWEEP_SECONDS
        kept = {key: one for key, one in self._counters.items() if not one.is_over(now)}
        self._counters = kept
        self._known.clear()


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
