"""Shared counters that outlive an outage of what they are shared in.

While Redis is away each process has a share of what was left when it went: one part in as many as
there were processes. What it spends meanwhile is carried over when Redis is back, with what Redis
may have forgotten. Nothing here waits longer than Redis' time-out, and nothing raises.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from time import monotonic, time
from typing import Any

from app.exchange.money import usd_text
from app.state.base import Ask, Limit, Outcome, Reading
from app.state.memory import MINUTE_SECONDS, MemoryState
from app.state.redis import Carried, RedisCounters, Settlement, Unreachable

log = logging.getLogger("pointsman.state")

_BATCH = 64
_GATHER_SECONDS = 0.005
"""Settlements wait so long for each other: together they cost a fraction."""
_FIRST_PROBE_SECONDS = 0.05
_LONGEST_PROBE_SECONDS = 1.0
_STEADY_SECONDS = 5.0
"""Redis must have been there for so long before the next probe is again a quick one."""
_CROSSING = 1.0
_CLOSE_SECONDS = 2.0
_GRACE_SECONDS = 86_400.0


@dataclass(slots=True)
class _Live:
    """A reservation that runs. `shared`: Redis knows it, by `id`, or is about to."""

    id: str
    limits: Sequence[Limit]
    asked: Ask
    shared: bool


@dataclass(slots=True)
class _Seen:
    """A counter as Redis last told it."""

    limit: Limit
    reading: Reading
    at: float


class SharedState:
    """Counters in Redis, and in this process while Redis is away.

    `least_processes` is how many there are at least, for a start without Redis. `on_away` is told
    when Redis goes (true) and comes (false).
    """

    def __init__(
        self,
        redis: RedisCounters,
        *,
        least_processes: int = 1,
        lease_seconds: float = 30.0,
        on_away: Callable[[bool], None] = lambda away: None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._redis = redis
        self._processes = self._least_processes = least_processes
        self._lease_seconds = lease_seconds
        self._on_away = on_away
        self._clock = clock
        self._process = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._away_since: float | None = None
        self._back_at = 0.0
        self._probe_seconds = _FIRST_PROBE_SECONDS
        self._local = MemoryState(clock=clock)
        self._live: dict[str, _Live] = {}
        self._seen: dict[str, _Seen] = {}
        self._queue: deque[Settlement] = deque()
        self._spent: dict[str, Carried] = {}
        self._unsure: tuple[str, list[Carried]] | None = None
        self._work = asyncio.Event()
        self._sending = asyncio.Lock()
        self._checking = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def away(self) -> bool:
        return self._is_away()

    def _is_away(self) -> bool:
        # A call, not an attribute: it may change over any await.
        return self._away_since is not None

    async def open(self) -> None:
        try:
            await self._redis.greet()
            await self._renew()
        except Unreachable as error:
            self._leave(error)
        self._start(self._send_as_it_comes())
        self._start(self._renew_leases())

    async def close(self) -> None:
        await self.flush()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        unsent = sum(one.how == "true" for one in self._queue)
        apart = [*self._spent.values(), *(self._unsure[1] if self._unsure else [])]
        spent = sum(one.more for one in apart)
        if unsent or spent:
            log.warning(
                "Redis never heard of what was spent at last: %d settlements, which stay as they "
                "were reserved, and $%s over all limits", unsent, usd_text(spent),
            )  # fmt: skip
        await self._redis.close()

    # --- reservations ------------------------------------------------------------------------

    async def reserve(self, id_: str, limits: Sequence[Limit], ask: Ask) -> Outcome:
        known_as = id_
        if not self._is_away():
            try:
                outcome = await self._redis.reserve("new", id_, limits, ask)
            except Unreachable as error:
                self._give_up(id_, limits, ask)
                self._leave(error)
                # By its own name Redis will find it given up.
                known_as = f"{id_}.2"
            except asyncio.CancelledError:
                self._give_up(id_, limits, ask)
                raise
            else:
                self._note(zip(limits, outcome.readings, strict=True))
                if not outcome.refused:
                    self._live[id_] = _Live(id_, limits, ask, shared=True)
                    if self._is_away():  # it went after this was answered
                        self._local.occupy(limits)
                return outcome
        outcome = self._local.take(limits, ask)
        if not outcome.refused:
            self._live[id_] = _Live(known_as, limits, ask, shared=False)
        return outcome

    async def extend(self, id_: str, limits: Sequence[Limit], asked: Ask, usd: int) -> Outcome:
        live, money = self._live[id_], [limit for limit in limits if limit.kind == "usd"]
        if not self._is_away() and live.shared:
            try:
                outcome = await self._redis.reserve("more", live.id, money, Ask(usd, 0))
            except Unreachable as error:
                self._leave(error)
            else:
                self._note(zip(money, outcome.readings, strict=True))
                if not outcome.refused:
                    live.asked = asked._replace(usd=usd)
                return outcome
        outcome = self._local.raise_to(money, asked, usd)
        if not outcome.refused:
            live.asked = asked._replace(usd=usd)
        return outcome

    def settle(self, id_: str, limits: Sequence[Limit], asked: Ask, true: Ask) -> None:
        live = self._live.pop(id_)
        if live.shared:
            self._queue.append(Settlement("true", live.id, limits, asked, true))
            if self._is_away():
                self._local.settle(id_, _slots(limits), asked, true)
        else:
            self._local.settle(id_, limits, asked, true)
            for limit in limits:
                if limit.kind == "usd":
                    before = self._spent.get(limit.key)
                    more = true.usd + (before.more if before else 0)
                    self._spent[limit.key] = Carried(limit, 0, more)
        self._work.set()

    def may_be_full(self, limits: Sequence[Limit], max_age: float = float("inf")) -> bool:
        if self._is_away():
            return self._local.may_be_full(limits)
        known = self._seen
        return any(
            (seen := known.get(limit.key)) is not None and seen.reading.used >= limit.ceiling - 1
            for limit in limits
        )

    def peek(self, limit: Limit, max_age: float = float("inf")) -> Reading | None:
        if self._is_away():
            return self._local.peek(limit)
        seen = self._seen.get(limit.key)
        if seen is None:
            return None
        age = self._clock() - seen.at
        if not 0 <= age <= max_age:
            return None
        reading = seen.reading._replace(ceiling=limit.ceiling, wait=0.0)
        if limit.kind == "usd":
            return reading
        gone = age * limit.ceiling / MINUTE_SECONDS
        return reading._replace(used=max(reading.used - gone, 0.0))

    async def load(self, spent: Iterable[tuple[Limit, int]], *, whole: bool = False) -> None:
        # Redis holds the most that anyone has seen: what comes twice counts once.
        now = self._clock()
        for limit, amount in spent:
            seen = self._seen.get(limit.key)
            if seen is None or seen.reading.settled < amount:
                self._seen[limit.key] = _Seen(limit, Reading(amount, 0, limit.ceiling), now)
        if self._is_away():
            self._local.know((seen.limit, int(seen.reading.used)) for seen in self._sums())
            return
        try:
            async with self._sending:
                await self._bring()
        except Unreachable as error:
            self._leave(error)

    async def flush(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._send()
        except TimeoutError:
            pass

    def key(self, name: str) -> str:
        return self._redis.key(name)

    async def ask(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any] | None:
        if self._is_away():
            return None
        try:
            return await self._redis.run(commands)
        except Unreachable:
            if not self._checking:
                self._checking = True
                self._start(self._check())
            return None

    async def _check(self) -> None:
        """Whether Redis is away, or only slow with what is no counter."""
        try:
            await self._redis.ping()
        except Unreachable as error:
            self._leave(error)
        finally:
            self._checking = False

    def _give_up(self, id_: str, limits: Sequence[Limit], ask: Ask) -> None:
        """It may have been made or not, or may yet be: make sure that it is not."""
        self._queue.append(Settlement("undo", id_, limits, ask, Ask(0, 0)))
        self._work.set()

    def _note(self, readings: Iterable[tuple[Limit, Reading]]) -> None:
        now = self._clock()
        for limit, reading in readings:
            if limit.kind == "usd":
                seen = self._seen.get(limit.key)
                # What is settled grows: of two answers that crossed, the larger one is the later.
                # Unless it is long ago: then an operator has taken it back.
                if seen and seen.reading.settled > reading.settled and now - seen.at < _CROSSING:
                    continue
            elif limit.kind != "requests":
                continue
            self._seen[limit.key] = _Seen(limit, reading, now)

    def _sums(self) -> list[_Seen]:
        return [seen for seen in self._seen.values() if seen.limit.kind == "usd"]

    # --- going and coming --------------------------------------------------------------------

    def _leave(self, error: Unreachable) -> None:
        """Redis does not answer: from here on this process counts by itself."""
        if self._is_away():
            return
        now = monotonic()
        self._away_since = now
        if now - self._back_at > _STEADY_SECONDS:
            self._probe_seconds = _FIRST_PROBE_SECONDS
        share = max(self._processes, self._least_processes)
        self._local = MemoryState(share, self._clock)
        # With what others have reserved: rather too much than too little.
        self._local.know((seen.limit, int(seen.reading.used)) for seen in self._sums())
        for live in self._live.values():
            self._local.occupy(live.limits)
        log.warning(
            "Redis is away (%s): this process keeps limits by itself, with one part in %d of what "
            "is left", error, share,
        )  # fmt: skip
        self._on_away(True)
        self._start(self._probe())

    async def _probe(self) -> None:
        while self._is_away():
            await asyncio.sleep(self._probe_seconds)
            self._probe_seconds = min(self._probe_seconds * 2, _LONGEST_PROBE_SECONDS)
            try:
                async with self._sending:
                    await self._redis.greet()
                    await self._bring()
                    await self._renew()
            except Unreachable:
                continue
            assert self._away_since is not None
            seconds = monotonic() - self._away_since
            self._away_since, self._back_at = None, monotonic()
            log.warning("Redis is back after %.1f s: limits are shared again", seconds)
            self._on_away(False)
            # Whatever was settled or admitted here until this moment is still to be told.
            self._work.set()

    async def _bring(self) -> None:
        """Tell Redis all that it may not know: what was settled, what was spent here, what runs.

        What fails on the way is told again next time; each telling counts once.
        """
        untold = {
            seen.limit.key: Carried(seen.limit, int(seen.reading.settled), 0)
            for seen in self._sums()
        }
        while self._unsure or self._spent or untold:
            if self._unsure is None:
                rows = []
                for key in [*self._spent, *(key for key in untold if key not in self._spent)]:
                    seen, more = untold.pop(key, None), self._spent.pop(key, None)
                    row = more or seen
                    assert row is not None
                    rows.append(row._replace(seen=seen.seen if seen else 0))
                    if len(rows) == _BATCH:
                        break
                self._unsure = (f"{self._process}.{os.urandom(6).hex()}", rows)
            # By its name it counts once, should it turn out to have been told already.
            self._note(await self._redis.carry(*self._unsure))
            self._unsure = None
        running = list(self._live.values())
        for live in running:
            # Its settlement waits in the queue behind this.
            live.shared = True
        for start in range(0, len(running), _BATCH):
            await self._redis.adopt(
                (live.id, live.limits, live.asked) for live in running[start : start + _BATCH]
            )

    # --- in the background -------------------------------------------------------------------

    def _start(self, work: Coroutine[None, None, None]) -> None:
        # Not in the context of the request that finds Redis gone: it serves all, and outlives it.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        # The event loop itself holds tasks only weakly.
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("shared limits have met an error of their own", exc_info=error)

    async def _send_as_it_comes(self) -> None:
        while True:
            await self._work.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._work.clear()
            await self._send()

    async def _send(self) -> None:
        """Send settlements until there are none, or Redis is away."""
        async with self._sending:
            try:
                if not self._is_away() and (self._spent or self._unsure or self._any_here()):
                    await self._bring()
                while self._queue and not self._is_away():
                    batch = [self._queue[i] for i in range(min(_BATCH, len(self._queue)))]
                    self._note(await self._redis.settle(batch))
                    for _ in batch:
                        self._queue.popleft()
            except Unreachable as error:
                self._leave(error)

    def _any_here(self) -> bool:
        return any(not live.shared for live in self._live.values())

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            self._forget()
            if self._is_away():
                continue
            try:
                await self._renew()
            except Unreachable as error:
                self._leave(error)

    async def _renew(self) -> None:
        leases: dict[str, list[str]] = {}
        for live in self._live.values():
            for limit in _slots(live.limits):
                leases.setdefault(limit.key, []).append(live.id)
        self._processes = await self._redis.renew(self._process, leases)

    def _forget(self) -> None:
        """Drop what was seen of periods that are over, and of rates that have flowed back."""
        now = self._clock()
        for key, seen in list(self._seen.items()):
            until = seen.limit.until
            if seen.limit.kind == "usd":
                over = until is not None and until + _GRACE_SECONDS < now
            else:
                over = seen.at + 2 * MINUTE_SECONDS < now
            if over:
                del self._seen[key]


def _slots(limits: Iterable[Limit]) -> list[Limit]:
    return [limit for limit in limits if limit.kind == "parallel"]
