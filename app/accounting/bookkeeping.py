"""From the journal into the database, in the background of one process.

Small batches, so that the event loop is never held for long. What fails is tried again after a
while that grows; what is itself at fault is put aside, so that it can't hold up the rest. Loaded
late, because SQLAlchemy is.
"""

from __future__ import annotations

import asyncio
import os
from time import monotonic
from uuid import uuid4

from app.accounting import backfill, retention
from app.accounting.booking import Line, book, forget, is_faulty, position
from app.accounting.database import UNAVAILABLE, Database
from app.accounting.entries import entry
from app.accounting.journal import Segment
from app.accounting.ledger import Ledger, brief
from app.errors import DatabaseError
from app.telemetry.logs import log

BATCH = 1_000
"""Lines in one transaction: fewer cost more each, more would hold the event loop for longer."""
_BREATH = 50
"""Lines that are read before requests have their turn."""
TICK_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0
SYNC_SECONDS = 1.0
ADOPT_SECONDS = 5.0
CLOSE_SECONDS = 5.0


async def keep(ledger: Ledger, stop: asyncio.Event) -> None:
    """Book until `stop` is set, then what is left, for at most CLOSE_SECONDS."""
    books = _Books(ledger)
    syncing = asyncio.get_running_loop().create_task(_sync(ledger))
    tidying = asyncio.get_running_loop().create_task(books.tidy())
    summing = asyncio.get_running_loop().create_task(books.sum_up())
    try:
        while not stop.is_set():
            pause = await books.round()
            ledger.told()
            await _sleep(stop, pause)
    finally:
        for task in (syncing, tidying, summing):
            task.cancel()
        await asyncio.gather(syncing, tidying, summing, return_exceptions=True)
        await books.close()


class _Books:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._database: Database | None = None
        self._pause = TICK_SECONDS
        self._adopted_at = -ADOPT_SECONDS
        self._gone: list[str] = []
        """Segments that are booked and removed, whose positions are still there."""
        self._left: dict[str, int] | None = None
        """Bytes of the segments that were there at the start, until they are booked."""
        self._memory = f"{ledger.place.owner}-memory-{uuid4().hex}"
        self._memory_booked = 0

    async def round(self) -> float:
        """Book what there is; returns how many seconds to wait for the next round."""
        ledger = self._ledger
        try:
            if self._database is None:
                self._database = await Database.open(ledger.place.url)
                self._greet()
            if self._left is None:
                self._left = ledger.journal.lengths()
            await self._adopt()
            await self._book_all()
            await self._catch_up()
        except (*UNAVAILABLE, DatabaseError) as error:
            ledger.trouble("database", error)
        except Exception as error:  # noqa: BLE001 - a bug must not end the booking: nothing is lost
            ledger.trouble("fault", error)
        else:
            ledger.over("database")
            ledger.over("fault")
            self._pause = TICK_SECONDS
            return TICK_SECONDS
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        return self._pause

    async def tidy(self) -> None:
        """Delete what is older than the retention, now and every hour."""
        while True:
            if self._database is None:
                await asyncio.sleep(TICK_SECONDS)
                continue
            try:
                await retention.tidy(self._database, self._ledger.retention_days)
            except Exception as error:  # noqa: BLE001 - nor may it end the tidying
                self._ledger.trouble("fault", error)
            await asyncio.sleep(retention.PAUSE_SECONDS)

    async def _opened(self) -> Database:
        while True:
            if self._database is not None:
                return self._database
            await asyncio.sleep(TICK_SECONDS)

    async def sum_up(self) -> None:
        """Make the dashboard's sums of rows that were there before them."""
        try:
            await backfill.keep_on(await self._opened())
        except Exception as error:  # noqa: BLE001 - the page lacks something, and no more
            self._ledger.trouble("fault", error)

    async def close(self) -> None:
        for segment in self._ledger.journal.segments:
            segment.closed_to_writing = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.round()
        except TimeoutError:
            log.warning("%d requests are left in the ledger's journal", self._ledger.pending)
        self._ledger.told()
        self._ledger.journal.close()
        if self._database is not None:
            await self._database.close()

    def _greet(self) -> None:
        if strangers := self._ledger.journal.strangers():
            log.warning(
                "%d journal segments in %s are of another database than `ledger.url` names; "
                "a gateway with that url would book them",
                strangers, self._ledger.place.journal,
            )  # fmt: skip

    async def _adopt(self) -> None:
        if monotonic() - self._adopted_at < ADOPT_SECONDS:
            return
        self._adopted_at = monotonic()
        for segment in self._ledger.journal.adopt():
            async with self._open.read() as connection:
                segment.read_to = await position(connection, segment.name)
            self._ledger.found(await asyncio.to_thread(segment.count))

    async def _catch_up(self) -> None:
        """Another process that starts at the same moment may have taken over what was left."""
        ledger = self._ledger
        if ledger.caught_up.is_set():
            return
        there = ledger.journal.lengths()
        async with self._open.read() as connection:
            self._left = {
                name: length
                for name, length in (self._left or {}).items()
                if name in there and await position(connection, name) < length
            }
        if not self._left:
            ledger.caught_up.set()

    async def _book_all(self) -> None:
        ledger = self._ledger
        for segment in list(ledger.journal.segments):
            while segment.read_to < segment.size:
                await self._book_some(segment)
            if segment.is_done:
                ledger.journal.remove(segment)
                self._gone.append(segment.name)
        await self._book_waiting()
        if self._gone:
            await forget(self._open, self._gone)
            self._gone.clear()

    @property
    def _open(self) -> Database:
        assert self._database is not None
        return self._database

    async def _book_some(self, segment: Segment) -> None:
        found, end = segment.lines(BATCH)
        lines = []
        for number, (stop, text) in enumerate(found):
            if number % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
            told = entry(text)
            if told is None:
                self._put_aside(text, "its checksum is wrong")
            else:
                lines.append(Line(stop, told))
        new = await self._book(segment.name, lines, end)
        segment.read_to = end
        self._ledger.metrics.ledger_records.inc(new)
        self._ledger.booked(len(found))
        # Sums and gauges are seen while a long backlog is worked off.
        self._ledger.told()

    async def _book_waiting(self) -> None:
        """What the journal could not take goes there as soon as it can, or straight on."""
        ledger = self._ledger
        if not ledger.waiting:
            return
        ledger.write_waiting()
        while ledger.waiting:
            batch = [ledger.waiting[n] for n in range(min(BATCH, len(ledger.waiting)))]
            end = self._memory_booked + len(batch)
            told = [entry(text.rstrip(b"\n")) for text in batch]
            lines = [Line(self._memory_booked + n + 1, one) for n, one in enumerate(told) if one]
            new = await self._book(self._memory, lines, end)
            self._memory_booked = end
            ledger.drop_waiting(len(batch))
            ledger.metrics.ledger_records.inc(new)
            ledger.booked(len(batch))

    async def _book(self, segment: str, lines: list[Line], end: int) -> int:
        try:
            return await book(self._open, segment, lines, end)
        except Exception as error:
            if not is_faulty(error):
                raise
        new = 0
        for line in lines:
            try:
                new += await book(self._open, segment, [line], line.end)
            except Exception as error:
                if not is_faulty(error):
                    raise
                self._put_aside(repr(line.told).encode(), brief(error))
        await book(self._open, segment, [], end)
        return new

    def _put_aside(self, text: bytes, why: str) -> None:
        """An entry that can't be booked: kept for a person to look at."""
        place = self._ledger.place
        file = place.journal / f"{place.owner}.rejected"
        self._ledger.metrics.ledger_failed("rejected")
        log.error("a settled request can't be booked (%s); it is in %s", why[:200], file)
        handle = os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, text + b"\n")
        finally:
            os.close(handle)


async def _sync(ledger: Ledger) -> None:
    """A second's worth of requests at most is lost when the power goes."""
    while True:
        await asyncio.sleep(SYNC_SECONDS)
        try:
            await asyncio.to_thread(ledger.journal.sync)
        except OSError as error:
            ledger.trouble("journal", error)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
