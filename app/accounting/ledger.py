"""The ledger as a request meets it: one line into the journal, and on it goes.

`kept` books what has been taken in, in the background. Whatever happens there (a database that is
locked or gone, a disk that is full) is told in `state`, in metrics and in one warning, and no
request notices: the backlog waits in the journal. Only what the journal itself can't take waits in
memory, and only up to a bound.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from time import monotonic
from traceback import format_tb
from typing import Literal

from app.accounting.entries import line
from app.accounting.journal import Journal
from app.accounting.place import Place
from app.errors import PointsmanError
from app.exchange.record import Record
from app.telemetry.logs import log
from app.telemetry.metrics import Metrics

WAITING_BYTES = 16 << 20
"""What may wait in memory while the journal can't be written: some ten thousand requests."""
BEHIND_SECONDS = 30.0
"""How long a request may wait for its place in the database before that is told."""

Trouble = Literal["journal", "database", "fault"]
_WHAT = {
    "journal": "the ledger's journal can't be written, so what is settled waits in memory",
    "database": "the ledger's database can't be written, so what is settled waits in the journal",
    "fault": "booking into the ledger failed inside the gateway; it is tried again",
}


class Ledger:
    """What was settled in this process. Belongs to one event loop."""

    def __init__(
        self,
        place: Place,
        metrics: Metrics,
        *,
        retention_days: int = 90,
        keep_prompt_text: bool = False,
        keep_embeddings: bool = False,
    ) -> None:
        self.place = place
        self.metrics = metrics
        self.retention_days = retention_days
        self.keep_prompt_text = keep_prompt_text
        self.keep_embeddings = keep_embeddings
        self.journal = Journal(place.journal, place.owner)
        self.waiting: deque[bytes] = deque()
        """Lines that the journal could not take."""
        self.caught_up = asyncio.Event()
        """Set once what dead processes left has been booked, by whichever process."""
        self.pending = 0
        """Requests that are not in the database yet."""
        self._waiting_bytes = 0
        self._troubles: set[Trouble] = set()
        self._behind_since: float | None = None

    def append(self, record: Record) -> None:
        """Take in a settled request. Never raises for want of disk."""
        self.pending += 1
        if self._behind_since is None:
            self._behind_since = monotonic()
        written = line(record)
        try:
            self.journal.append(written)
        except OSError as error:
            self._hold(written, error)
        else:
            if "journal" in self._troubles:
                self.over("journal")

    @property
    def state(self) -> Literal["ok", "behind"]:
        return "behind" if self._troubles or self.lag_seconds > BEHIND_SECONDS else "ok"

    @property
    def lag_seconds(self) -> float:
        """How long something has been waiting for its place in the database, without a break."""
        return 0.0 if self._behind_since is None else monotonic() - self._behind_since

    def found(self, count: int) -> None:
        """That many were left behind by processes that are dead."""
        self.pending += count
        if count and self._behind_since is None:
            self._behind_since = monotonic()

    def booked(self, count: int) -> None:
        """That many are in the database now."""
        self.pending -= count
        if self.pending <= 0:
            self.pending, self._behind_since = 0, None

    def trouble(self, kind: Trouble, error: BaseException) -> None:
        """Something failed: counted each time, told once until it is `over`."""
        self.metrics.ledger_failed(kind)
        if kind not in self._troubles:
            self._troubles.add(kind)
            if kind == "fault":  # where it was, and not the message, as above
                log.error("%s: %s\n%s", _WHAT[kind], brief(error), _frames(error))
            else:
                log.warning("%s: %s", _WHAT[kind], brief(error))

    def over(self, kind: Trouble) -> None:
        if kind in self._troubles:
            self._troubles.remove(kind)
            log.warning("the ledger's %s is back; %d requests wait", kind, self.pending)

    def write_waiting(self) -> None:
        """Move what waits in memory to the journal, as far as it takes it."""
        while self.waiting:
            try:
                self.journal.append(self.waiting[0])
            except OSError as error:
                self.trouble("journal", error)
                return
            self.drop_waiting(1)
        self.over("journal")

    def drop_waiting(self, count: int) -> None:
        """The first of those that wait are safe elsewhere."""
        for _ in range(count):
            self._waiting_bytes -= len(self.waiting.popleft())

    def told(self) -> None:
        """Bring the gauges up to date."""
        self.metrics.ledger_pending.set(self.pending)
        self.metrics.ledger_lag.set(self.lag_seconds)

    def _hold(self, written: bytes, error: OSError) -> None:
        self.trouble("journal", error)
        if self._waiting_bytes + len(written) > WAITING_BYTES:
            self.metrics.ledger_lost.inc()
            self.booked(1)
            return
        self.waiting.append(written)
        self._waiting_bytes += len(written)


@asynccontextmanager
async def kept(ledger: Ledger | None) -> AsyncIterator[None]:
    """Book what `ledger` takes in until the end, and what is then left, if that is quick.

    Raises DatabaseError where the journal has no place to be written.
    """
    if ledger is None:
        yield
        return
    ledger.place.prepare()
    stop = asyncio.Event()
    task = asyncio.get_running_loop().create_task(_keep(ledger, stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def _keep(ledger: Ledger, stop: asyncio.Event) -> None:
    # SQLAlchemy takes half a second to load; requests need not wait for it.
    await asyncio.to_thread(import_module, "app.accounting.bookkeeping")
    from app.accounting.bookkeeping import keep

    await keep(ledger, stop)


def _frames(error: BaseException) -> str:
    return "".join(format_tb(error.__traceback__))


def brief(error: BaseException) -> str:
    """One line without any value: what a driver says may quote the prompt that it choked on.

    The words of the system, of SQLite about itself and our own are told; of everything else its
    class, and its SQLSTATE if it has one.
    """
    cause = getattr(error, "orig", None) or error
    # SQLAlchemy's error is of asyncpg's only the wrapping.
    cause = (cause is not error and cause.__cause__) or cause
    name, code = type(cause).__name__, getattr(cause, "sqlstate", None)
    if isinstance(cause, OSError | sqlite3.OperationalError | PointsmanError) and str(cause):
        return f"{name}: {str(cause).splitlines()[0][:400]}"
    return f"{name} (SQLSTATE {code})" if code else name
