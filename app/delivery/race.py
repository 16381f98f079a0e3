"""Two attempts at one request side by side, of which the first that answers is kept.

The other is stopped at once. Whatever happens, also where the client leaves meanwhile, what was
asked has ended, is noted, and has given its seat back when the race is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from time import perf_counter
from typing import Any, Literal, NamedTuple, cast

from app.catalog.model import Model
from app.delivery.attempt import Opened, Whole
from app.delivery.deployment import DeploymentState, Seat
from app.errors import UpstreamError
from app.exchange.record import HEDGED_AWAY, Record

Result = Literal["won", "lost", "failed", "cancelled"]
"""What came of the second: it answered first, the one beside it did, or neither; or the client
left."""


class Entry(NamedTuple):
    """A place at which a request is asked."""

    model: Model
    state: DeploymentState
    seat: Seat


Answered = Whole | Opened


class _Side:
    """One of the two."""

    def __init__(self, entry: Entry | None, work: Coroutine[Any, Any, Answered | None]) -> None:
        self.entry = entry
        """None for a second that has no place yet."""
        self.task = asyncio.get_running_loop().create_task(work)

    def overtaken(self) -> None:
        """The other has answered."""
        if self.entry is not None:
            self.entry.seat.overtaken()

    def put_away(self, outcome: str) -> None:
        """What it had, now that it has ended: a place that was never used, an answer that nobody
        takes any more."""
        failed = self.task.cancelled() or self.task.exception() is not None
        if self.entry is None:
            return
        seat = self.entry.seat
        if seat.attempt is not None and (not failed or seat.attempt.outcome == "cancelled"):
            seat.attempt.outcome = outcome
        if not failed and isinstance(opened := self.task.result(), Opened):
            opened.answer.close()
        seat.end("unknown")


class Race:
    """One deployment, and if it is late another one beside it.

    `another` finds that one and takes its seat, `ask` makes an attempt and ends the seat unless a
    stream is open, `failed` is told of each that fails and raises what is the last word, and `told`
    hears once what came of the second if it was asked.
    """

    def __init__(
        self,
        record: Record,
        *,
        ask: Callable[[Model, Seat], Coroutine[Any, Any, Answered]],
        another: Callable[[], Awaitable[Entry | None]],
        failed: Callable[[Model, DeploymentState, UpstreamError], None],
        told: Callable[[Result], None],
    ) -> None:
        self._record = record
        self._ask, self._another, self._failed, self._told = ask, another, failed, told
        self._sides: list[_Side] = []
        """The first one, and the second if it came to one."""
        self._final: UpstreamError | None = None

    async def run(self, first: Entry, late_seconds: float) -> Answered | None:
        """What answers first; None if nothing does. Raises an UpstreamError that is the last word.

        Cancelled or not, it returns when all that was asked has ended and is noted.
        """
        before, began = self._record.upstream_seconds, perf_counter()
        one = self._enter(first, self._ask(first.model, first.seat))
        winner: _Side | None = None
        try:
            await asyncio.wait([one.task], timeout=late_seconds)
            if not one.task.done():
                self._enter(None, self._beside())
            winner = await self._winner()
            if stopped := self._stop(winner):
                await asyncio.wait(stopped)
        except BaseException as error:
            winner = None
            while stopped := self._stop(None):
                with suppress(asyncio.CancelledError):  # said twice, it is still this one
                    await asyncio.wait(stopped)
            if isinstance(error, asyncio.CancelledError):
                self._tell("cancelled")
            raise
        finally:
            for side in self._sides:
                if side is not winner:
                    side.put_away("cancelled" if winner is None else HEDGED_AWAY)
            if len(self._sides) > 1:
                # Two that were waited for together took no longer than that.
                self._record.upstream_seconds = before + perf_counter() - began
        self._tell("failed" if winner is None else "lost" if winner is one else "won")
        if winner is None:
            if self._final is not None:
                raise self._final
            return None
        entry = cast("Entry", winner.entry)
        self._record.model = entry.model.name
        self._record.upstream = entry.seat.deployment.upstream
        # What served comes last, whichever ended first.
        self._record.attempts.sort(key=lambda one: one is entry.seat.attempt)
        return winner.task.result()

    def _enter(self, entry: Entry | None, work: Coroutine[Any, Any, Answered | None]) -> _Side:
        side = _Side(entry, work)
        self._sides.append(side)
        return side

    async def _beside(self) -> Answered | None:
        """The second; None if nobody may be asked."""
        found = await self._another()
        if found is None:
            return None
        self._sides[1].entry = found
        return await self._ask(found.model, found.seat)

    async def _winner(self) -> _Side | None:
        """The first that answers. Who fails leaves it to the other, whatever it failed of."""
        left, winner = self._sides, None
        while left and winner is None:
            await asyncio.wait([side.task for side in left], return_when=asyncio.FIRST_COMPLETED)
            done = [side for side in left if side.task.done()]
            left = [side for side in left if side not in done]
            for side in done:
                if (error := side.task.exception()) is not None:
                    self._lost(side, error)
                elif side.task.result() is not None:
                    winner = winner or side
        return winner

    def _lost(self, side: _Side, error: BaseException) -> None:
        if not isinstance(error, UpstreamError) or side.entry is None:
            raise error
        try:
            self._failed(side.entry.model, side.entry.state, error)
        except UpstreamError as final:
            self._final = self._final or final

    def _stop(self, winner: _Side | None) -> list[asyncio.Task[Answered | None]]:
        """Cancel all but the winner; those that have yet to end."""
        stopped = []
        for side in self._sides:
            if side is not winner and not side.task.done():
                if winner is not None:
                    side.overtaken()
                side.task.cancel()
                stopped.append(side.task)
        return stopped

    def _tell(self, result: Result) -> None:
        if len(self._sides) > 1 and self._sides[1].entry is not None:
            self._told(result)
