"""What was spent, from daily sums and from rows, and what stays when the rows are gone."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete

from app.accounting import retention, tables
from app.accounting.booking import book
from app.accounting.database import Database
from app.accounting.spend import BY, By, spending
from app.exchange.record import Attempt
from tests.unit.accounting.records import NOON, lines, record, rows

TODAY = datetime(2025, 11, 25, tzinfo=UTC)
DAY_SECONDS = 86_400


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Database]:
    one = await Database.open(database_url)
    written = lines(
        record(1),
        record(2, model="large", cost=4_000, baseline_cost=4_000, tags=("team-a", "team-b")),
        record(3, cost=None, tags=(), key_id=None),
        record(4, outcome="error", model=None, upstream=None, usage=None, cost=None, attempts=[]),
        record(-DAY_SECONDS, route="cheap", cost=10, baseline_cost=5, tags=("team-b",)),
        record(-2 * DAY_SECONDS),
    )
    await book(one, "s", written, written[-1].end)
    yield one
    await one.close()


def test_the_day_is_what_it_seems() -> None:
    assert datetime.fromtimestamp(NOON, UTC) == TODAY + timedelta(hours=12)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("model", {"large": (1, 4_000), "small": (3, 1_010), "none": (1, 0)}),
        ("upstream", {"sim": (4, 5_010), "none": (1, 0)}),
        ("route", {"auto": (4, 5_000), "cheap": (1, 10)}),
        ("key", {"key_1": (4, 5_010), "none": (1, 0)}),
        ("tag", {"team-a": (3, 5_000), "team-b": (2, 4_010), "none": (1, 0)}),
        ("day", {"2025-11-24": (1, 10), "2025-11-25": (4, 5_000)}),
    ],
)
@pytest.mark.parametrize("whole_days", [True, False])
async def test_spending_by(
    opened: Database, by: By, expected: dict[str, tuple[int, int]], whole_days: bool
) -> None:
    """Daily sums and rows answer alike."""
    off = timedelta(seconds=0 if whole_days else 1)
    since, until = TODAY - timedelta(1) + off, TODAY + timedelta(1) + off
    found = await spending(opened, by, since, until)
    assert {row.name: (row.requests, row.cost_nano) for row in found.rows} == expected
    assert [row.name for row in found.rows] == list(expected)
    total = found.total
    assert (total.requests, total.failed, total.unpriced) == (5, 1, 1)
    assert (total.cost_nano, total.baseline_cost_nano) == (5_010, 9_005)
    # What has no cost has no baseline here either, or the two could not be held against each other.
    assert total.saved_nano == 9_005 - 5_010 == 4_000 + 0 - 5


async def test_an_unknown_cost_is_not_nothing(opened: Database) -> None:
    found = await spending(opened, "key", TODAY, TODAY + timedelta(1))
    by_key = {row.name: row for row in found.rows}
    assert (by_key["none"].cost, by_key["none"].unpriced) == (None, 1)
    assert by_key["key_1"].cost == 5_000


@pytest.mark.parametrize("by", BY)
async def test_sums_outlive_the_rows(opened: Database, by: By) -> None:
    since, until = TODAY - timedelta(9), TODAY + timedelta(1)
    before = await spending(opened, by, since, until)
    async with opened.write() as connection:
        await connection.execute(delete(tables.requests))
    assert await spending(opened, by, since, until) == before


async def test_no_requests_are_no_rows(opened: Database) -> None:
    for since in (TODAY - timedelta(99), TODAY - timedelta(days=99, seconds=1)):
        found = await spending(opened, "model", since, since + timedelta(1))
        assert found.rows == ()
        assert (found.total.requests, found.total.cost) == (0, 0)


async def test_retention_takes_whole_days(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_ROWS", 2)
    monkeypatch.setattr(retention, "_BREATH_SECONDS", 0)
    now = NOON
    assert await retention.tidy(opened, 2, now) == 0
    assert await retention.tidy(opened, 1, now) == 1
    assert await retention.tidy(opened, 1, now) == 0
    assert len(await rows(opened, tables.requests)) == 5
    assert await retention.tidy(opened, 1, now + 2 * DAY_SECONDS) == 5
    assert await rows(opened, tables.requests) == []
    assert sum(row["requests"] for row in await rows(opened, tables.daily)) == 6


async def test_one_process_at_a_time_tidies(opened: Database) -> None:
    async with opened.alone("retention") as mine:
        assert mine
        assert await retention.tidy(opened, 1, NOON + 9 * DAY_SECONDS) == 0
    assert await retention.tidy(opened, 1, NOON + 9 * DAY_SECONDS) == 6


async def test_a_database_that_fails_is_left_for_later(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    one = await Database.open(f"sqlite:///{tmp_path_factory.mktemp('x')}/x.db")
    async with one.write() as connection:
        await connection.exec_driver_sql("DROP TABLE prompts")
    assert await retention.tidy(one, 1) == 0
    assert "old rows of the ledger are still there" in caplog.text
    await one.close()


@pytest.mark.parametrize("whole_days", [True, False])
async def test_a_failure_of_unknown_cost_is_counted_as_one(
    database_url: str, whole_days: bool
) -> None:
    """A call that timed out may be charged, also where nobody knows its price."""
    one = await Database.open(database_url)
    timed_out = [Attempt("sim", "dear", "timeout", 60.0, 504, estimated=True)]
    failed = record(1, outcome="error", model=None, usage=None, cost=None, attempts=timed_out)
    written = lines(failed)
    await book(one, "s", written, written[-1].end)
    off = timedelta(seconds=0 if whole_days else 1)
    found = await spending(one, "model", TODAY + off, TODAY + timedelta(1) + off)
    await one.close()
    assert (found.total.unpriced, found.total.cost) == (1, None)
