"""Load shedding: so many requests at once, some more in a queue, and the rest are told at once to
come later. What is served stays as quick as ever; without it all would become slow together."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from math import ceil
from typing import Literal

from app.errors import Overloaded
from app.telemetry.metrics import Metrics


class Gate:
    """Lets `most` requests in at once, all if None. Up to `queue` more wait, with bodies of
    `queue_bytes` together, each at most so many `seconds`."""

    def __init__(
        self,
        most: int | None = None,
        *,
        queue: int = 0,
        queue_bytes: int = 1 << 28,
        seconds: float = 1,
        metrics: Metrics | None = None,
    ) -> None:
        self._most, self._queue, self._seconds = most, queue, seconds
        self._queue_bytes, self._queued_bytes = queue_bytes, 0
        self._metrics = metrics
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.inside = 0

    def configure(self, most: int | None, *, queue: int, queue_bytes: int, seconds: float) -> None:
        """Other bounds from now on, for those too who wait."""
        self._most, self._queue, self._seconds = most, queue, seconds
        self._queue_bytes = queue_bytes
        while (most is None or self.inside < most) and (turn := self._next()) is not None:
            self.inside += 1
            turn.set_result(None)

    @property
    def queued(self) -> int:
        return len(self._waiting)

    def place(self, size: int = 0, seconds: float | None = None) -> Place:
        """The serving of one request of `size` bytes, which has so many `seconds` left."""
        return Place(self, size, self._seconds if seconds is None else seconds)

    async def enter(self, size: int, seconds: float) -> None:
        """Raises Overloaded where the queue is full, or the turn has not come in time."""
        if self._most is None or self.inside < self._most:
            self.inside += 1
        else:
            await self._turn(size, seconds)

    async def _turn(self, size: int, seconds: float) -> None:
        """Wait for a place."""
        if len(self._waiting) >= self._queue or self._queued_bytes + size > self._queue_bytes:
            raise self._shed("queue_full")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._count(1, size)
        try:
            async with asyncio.timeout(min(seconds, self._seconds)):
                await turn
        except BaseException as error:
            if not turn.done() or turn.cancelled():
                with suppress(ValueError):  # it was passed over
                    self._waiting.remove(turn)
            elif isinstance(error, TimeoutError):
                return  # its turn came in the same moment
            else:
                self.leave()  # it was given a place and can't take it
            if isinstance(error, TimeoutError):
                raise self._shed("queue_timeout") from None
            raise
        finally:
            self._count(-1, -size)

    def leave(self) -> None:
        """Hand the place on to who has waited longest, if it is still one."""
        turn = self._next() if self._most is None or self.inside <= self._most else None
        if turn is not None:
            turn.set_result(None)
        else:
            self.inside -= 1

    def _next(self) -> asyncio.Future[None] | None:
        """The turn of who has waited longest, but for those who are just giving up: who is
        cancelled hears of it later than what it waits for."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                return turn
        return None

    def _count(self, change: int, size: int) -> None:
        self._queued_bytes += size
        if self._metrics is not None:
            self._metrics.queued.inc(change)

    def _shed(self, reason: Literal["queue_full", "queue_timeout"]) -> Overloaded:
        if self._metrics is not None:
            self._metrics.shed.labels(reason).inc()
        return Overloaded(
            "The gateway is serving as many requests as it may; come back in a moment.",
            headers=[("retry-after", str(max(ceil(self._seconds), 1)))],
        )


class Place:
    """Of one request: an async context manager around its serving, that raises as `enter` does. A
    class because each request enters one, and a generator takes nearly three times as long."""

    __slots__ = ("_gate", "_seconds", "_size")

    def __init__(self, gate: Gate, size: int, seconds: float) -> None:
        self._gate, self._size, self._seconds = gate, size, seconds

    async def __aenter__(self) -> None:
        await self._gate.enter(self._size, self._seconds)

    async def __aexit__(self, *_: object) -> None:
        self._gate.leave()
