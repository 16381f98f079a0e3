"""From settling to the database, through everything that can be away meanwhile."""

import asyncio
import errno
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.accounting import bookkeeping, database, ledger, tables
from app.accounting.database import Database
from app.accounting.journal import Segment
from app.accounting.ledger import Ledger, kept
from app.accounting.place import Place
from app.config import schema
from app.errors import DatabaseError
from app.telemetry.metrics import Metrics
from tests.postgres import Postgres
from tests.unit.accounting.records import record, rows

MakeLedger = Callable[..., Ledger]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookkeeping, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(bookkeeping, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(bookkeeping, "SYNC_SECONDS", 0.02)
    monkeypatch.setattr(bookkeeping, "ADOPT_SECONDS", 0.05)
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.05)


@pytest.fixture
def make(database_url: str, tmp_path: Path) -> MakeLedger:
    return lambda url=database_url, **options: at(url, tmp_path, **options)


def at(url: str, folder: Path, **options: Any) -> Ledger:
    place = Place.compile(schema.Ledger(url=url), folder)
    assert place is not None
    # The records are of one day, which will have been long ago.
    return Ledger(place, Metrics(CollectorRegistry()), **{"retention_days": 36_500, **options})


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what holds is in many places, none of which tells
            await asyncio.sleep(0.005)


async def ids(url: str) -> list[str]:
    async with looked_into(url) as one:
        return [row["id"] for row in await rows(one, tables.requests)]


@asynccontextmanager
async def looked_into(url: str) -> AsyncIterator[Database]:
    one = await Database.open(url)
    yield one
    await one.close()


def segments(one: Ledger) -> list[Path]:
    return list(one.place.journal.glob("*.journal"))


def counted(one: Ledger, name: str, **labels: str) -> float:
    return one.metrics.registry.get_sample_value(f"pointsman_ledger_{name}", labels) or 0.0


def warnings(caplog: pytest.LogCaptureFixture, words: str) -> int:
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    return sum(words in message for message in told)


async def test_what_is_settled_is_booked(make: MakeLedger, database_url: str) -> None:
    one = make()
    async with kept(one):
        for number in range(250):
            one.append(record(number))
        await until(lambda: one.pending == 0)
        assert (one.state, one.lag_seconds) == ("ok", 0.0)
        assert counted(one, "records_total") == 250
        one.append(record(250))
    assert len(await ids(database_url)) == 251, "the last one is booked at the end"
    assert segments(one) == []


async def test_what_the_dead_left_is_booked_once(make: MakeLedger, database_url: str) -> None:
    first = make()
    first.place.prepare()
    for number in range(300):
        first.append(record(number))
    first.journal.close()  # as a process that ends: its locks are gone and its files are not
    assert segments(first)
    second, third = make(), make()
    async with kept(second), kept(third):
        second.append(record(300))
        await until(lambda: second.pending + third.pending == 0 and len(segments(first)) <= 1)
    assert len(await ids(database_url)) == 301
    assert counted(second, "records_total") + counted(third, "records_total") == 301


async def test_who_has_caught_up_knows_what_others_book(
    make: MakeLedger, database_url: str
) -> None:
    """Of two that start together one has the locks; the other must not go on from half of it."""
    first = make()
    first.place.prepare()
    first.append(record(0))
    first.journal.close()
    second, third = make(), make()
    second.journal.adopt()
    async with kept(third):
        third.append(record(1))
        await until(lambda: third.pending == 0)
        assert not third.caught_up.is_set()
        async with kept(second):
            await asyncio.wait_for(third.caught_up.wait(), 10.0)
    assert len(await ids(database_url)) == 2


async def test_a_batch_that_was_committed_before_the_end_came_is_not_repeated(
    make: MakeLedger, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: the database has it and the journal does not know."""
    first = make()
    async with kept(first):
        for number in range(150):
            first.append(record(number))
        await until(lambda: first.pending == 0)
        (path,) = segments(first)
        image = path.read_bytes()
    path.write_bytes(image)
    async with looked_into(database_url) as one, one.write() as connection:
        # As it stood before the file was removed.
        stood = tables.journal_positions.insert().values(segment=path.stem, position=len(image))
        await connection.execute(stood)
        await connection.execute(tables.requests.delete())
    second = make()
    async with kept(second):
        await until(lambda: not segments(second))
    assert await ids(database_url) == []
    async with looked_into(database_url) as one:
        (total,) = await rows(one, tables.daily)
    assert total["requests"] == 150


async def test_a_database_that_is_gone_is_caught_up_with(
    postgres: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres.database()
    one = at(url, tmp_path)
    async with kept(one):
        one.append(record(0))
        await until(lambda: one.pending == 0)
        postgres.stop()
        try:
            for number in range(1, 500):
                one.append(record(number))
            await until(lambda: counted(one, "errors_total", kind="database") >= 3)
            assert (one.state, one.pending) == ("behind", 499)
            assert not one.waiting, "the backlog is in the journal"
        finally:
            postgres.start()
        await until(lambda: one.pending == 0 and one.state == "ok")
        assert one.state == "ok"
    assert len(await ids(url)) == 500
    assert warnings(caplog, "database can't be written") == 1
    assert warnings(caplog, "database is back") == 1
    assert "Traceback" not in caplog.text


async def test_a_database_that_is_not_there_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor at the end: what was settled is there for the next start."""
    (tmp_path / "in the way").touch()
    url = f"sqlite:///{tmp_path}/in the way/ledger.db"
    one = at(url, tmp_path)
    async with kept(one):
        for number in range(10):
            one.append(record(number))
        await until(lambda: one.state == "behind")
    assert warnings(caplog, "database can't be written") == 1
    (tmp_path / "in the way").unlink()
    async with kept(at(url, tmp_path)):
        pass
    assert len(await ids(url)) == 10


async def test_a_locked_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    one = at(url, tmp_path)
    async with kept(one):
        one.append(record(0))
        await until(lambda: one.pending == 0)
        other = sqlite3.connect(
            tmp_path / "ledger.db", isolation_level=None, check_same_thread=False
        )
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        for number in range(1, 50):
            one.append(record(number))
        await until(lambda: counted(one, "errors_total", kind="database") >= 2)
        assert one.state == "behind"
        assert warnings(caplog, "OperationalError: database is locked") == 1
        other.execute("ROLLBACK")
        other.close()
        await until(lambda: one.pending == 0)
        assert one.state == "ok"
    assert len(await ids(url)) == 50


class FullDisk:
    """A disk on which nothing can be written while `full`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, handle: int, data: bytes) -> int:
        if self.full and data[:1] not in b"\x00\x01":  # the loop wakes itself by such a byte
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(handle, data)


async def test_a_full_disk(
    make: MakeLedger,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The journal takes nothing; a database elsewhere still does."""
    disk = FullDisk(monkeypatch)
    one = make()
    async with kept(one):
        one.append(record(0))
        disk.full = True
        for number in range(1, 150):
            one.append(record(number))
        assert (one.state, len(one.waiting)) == ("behind", 149)
        await until(lambda: one.pending == 0)
        assert one.state == "behind"
        disk.full = False
        one.append(record(150))
        assert one.state == "ok"
    assert len(await ids(database_url)) == 151
    assert warnings(caplog, "No space left on device") == 1
    assert warnings(caplog, "journal is back") == 1


async def test_what_waits_in_memory_has_a_bound(
    make: MakeLedger,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "WAITING_BYTES", 10_000)
    disk = FullDisk(monkeypatch)
    one = make()
    one.place.prepare()
    disk.full = True
    for number in range(100):
        one.append(record(number))
    held = len(one.waiting)
    assert 5 < held < 20
    assert sum(map(len, one.waiting)) <= 10_000
    assert counted(one, "lost_records_total") == 100 - held
    assert one.pending == held
    disk.full = False
    async with kept(one):
        await until(lambda: one.pending == 0)
    assert await ids(database_url) == sorted(f"req_{n}" for n in range(held))


async def test_what_cannot_be_booked_holds_up_nothing(
    make: MakeLedger, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = make()
    one.place.prepare()
    for number in range(20):
        one.append(record(number))
    # No database takes that; what the driver says of it quotes the value.
    one.append(record(20, route=None, status="what was asked"))
    one.journal.append(b"deadbeef {}\n")
    one.append(record(21))
    async with kept(one):
        await until(lambda: one.journal.segments[0].read_to == one.journal.segments[0].size)
        assert one.state == "ok"
    assert len(await ids(database_url)) == 21
    assert counted(one, "errors_total", kind="rejected") == 2
    assert warnings(caplog, "can't be booked") == 2
    assert "what was asked" not in caplog.text
    (file,) = one.place.journal.glob("*.rejected")
    assert b"req_20" in file.read_bytes()
    assert file.read_bytes().count(b"\n") == 2


async def test_a_fault_of_ours_is_told_once_and_tried_again(
    make: MakeLedger,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = make()
    with monkeypatch.context() as patched:
        patched.setattr(Segment, "lines", lambda *_: 1 / 0)
        async with kept(one):
            one.append(record(0))
            await until(lambda: counted(one, "errors_total", kind="fault") >= 3)
    assert warnings(caplog, "failed inside the gateway") == 1
    assert "ZeroDivisionError" in caplog.text
    assert "_book_some" in caplog.text, "where it was"
    async with kept(make()):
        pass
    assert await ids(database_url) == ["req_0"]


async def test_a_schema_from_the_future_stops_the_booking_only(
    make: MakeLedger, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with looked_into(database_url) as one, one.write() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'r9999_x'")
    newer = make()
    async with kept(newer):
        newer.append(record(0))
        await until(lambda: newer.state == "behind")
    assert warnings(caplog, "Run the newer version, or name another database") == 1
    assert len(segments(newer)) == 1


async def test_a_place_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / ".pointsman").touch()
    with pytest.raises(DatabaseError, match=r"journal can't be written.*`ledger: null`"):
        async with kept(at("sqlite:///x.db", tmp_path)):
            pass


def test_two_databases_in_one_directory_are_two_owners(tmp_path: Path) -> None:
    def owner(url: str) -> str:
        return at(url, tmp_path).place.owner

    assert owner("sqlite:///a.db") == owner(f"sqlite:///{tmp_path}/a.db")
    assert owner("sqlite:///a.db") != owner("sqlite:///b.db")
    assert owner("postgresql://u:one@h/d") == owner("postgresql://u:two@h/d")
    assert owner("postgresql://u@h/d") != owner("postgresql://u@h/e")
