"""Batches into the database: each request once, and sums that agree with the rows."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, text

from app.accounting import booking, database, key_store, migrations, tables
from app.accounting.booking import book
from app.accounting.database import Database
from app.exchange.usage import Usage
from tests.unit.accounting.records import DAY, lines, record, rows


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Database]:
    one = await Database.open(database_url)
    yield one
    await one.close()


async def put(database: Database, *records: Any, segment: str = "s") -> int:
    written = lines(*records)
    return await book(database, segment, written, written[-1].end)


async def test_a_batch_is_rows_and_sums(opened: Database) -> None:
    failed = record(2, model=None, upstream=None, usage=None, cost=None, attempts=[], status=502)
    failed.outcome = "error"
    dear = record(3, cost=9_000, tags=("team-a", "urgent"), key_id=None)
    assert await put(opened, record(1), failed, dear) == 3
    found = await rows(opened, tables.requests)
    assert [row["id"] for row in found] == ["req_1", "req_2", "req_3"]
    assert found[0]["tags"] == ["team-a"]
    assert found[0]["predictions"][0]["model"] == "small"
    assert found[2]["saved_nano"] == -4_000
    daily = {(row["model"], row["key_id"]): row for row in await rows(opened, tables.daily)}
    assert set(daily) == {("small", "key_1"), ("none", "key_1"), ("small", "none")}
    assert daily["small", "key_1"]["day"] == DAY
    assert daily["none", "key_1"]["failed"] == 1
    assert daily["none", "key_1"]["unpriced"] == 0
    by_tag = {row["tag"]: row for row in await rows(opened, tables.daily_tags)}
    assert by_tag["team-a"]["requests"] == 3
    assert by_tag["team-a"]["cost_nano"] == 10_000
    assert by_tag["urgent"]["cost_nano"] == 9_000


async def test_what_is_booked_is_not_booked_again(opened: Database) -> None:
    """Neither from the same segment, nor from another, nor twice in a batch."""
    assert await put(opened, record(1), record(2)) == 2
    assert await put(opened, record(1), record(2)) == 0
    assert await put(opened, record(1), record(2), record(3)) == 1
    assert await put(opened, record(3), record(4), record(4), segment="another") == 1
    assert len(await rows(opened, tables.requests)) == 4
    (total,) = await rows(opened, tables.daily)
    assert (total["requests"], total["cost_nano"]) == (4, 4_000)


async def test_a_deleted_row_is_not_booked_again(opened: Database) -> None:
    """A journal that comes back after the rows' time is over must not add to the sums."""
    await put(opened, record(1))
    async with opened.write() as connection:
        await connection.execute(tables.requests.delete())
    assert await put(opened, record(1)) == 0
    (total,) = await rows(opened, tables.daily)
    assert total["requests"] == 1


async def test_prompts_are_kept_beside(opened: Database) -> None:
    kept = record(1, prompt="What is asked", embedding=b"\x00\x00\x80?")
    await put(opened, kept, record(2))
    (row,) = await rows(opened, tables.prompts)
    assert (row["id"], row["text"], row["embedding"]) == (
        "req_1",
        "What is asked",
        b"\x00\x00\x80?",
    )


async def test_a_batch_that_fails_leaves_nothing(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(booking, "_summed", fail)
        with pytest.raises(ZeroDivisionError):
            await put(opened, record(1))
    assert await rows(opened, tables.requests) == []
    assert await put(opened, record(1)) == 1


async def test_absurd_numbers_break_neither_rows_nor_sums(opened: Database) -> None:
    absurd = {"usage": Usage(10**30, 2**63 - 1), "cost": 10**30, "baseline_cost": -(10**30)}
    await put(opened, *(record(number, **absurd) for number in range(50)))
    await put(opened, *(record(number, **absurd) for number in range(50, 100)), segment="t")
    (total,) = await rows(opened, tables.daily)
    assert total["input_tokens"] == total["cost_nano"] == 100 * 10**15
    assert total["saved_nano"] == -200 * 10**15


async def test_migrations_make_the_tables_that_the_code_knows(opened: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection), database.metadata)

    async with opened.read() as connection:
        assert await connection.run_sync(differences) == []
    assert key_store.keys.metadata is database.metadata  # else the comparison knew none of it


def revision_chain() -> list[tuple[str, str | None]]:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    return [(one.revision, one.down_revision) for one in script.walk_revisions()][::-1]  # type: ignore[misc]


def test_revisions_are_one_line_named_by_their_files() -> None:
    assert [name for name, _ in revision_chain()] == list(migrations.REVISIONS)
    assert [down for _, down in revision_chain()] == [None, *migrations.REVISIONS[:-1]]


async def test_rows_of_the_first_schema_are_kept_and_summed_up(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in a database of the first revision is what a new one would hold."""
    batch = [record(1), record(2, tags=(), cost=None), record(3, tags=("x", "team-a"), model=None)]
    batch += [record(90_000, key_id=None, outcome="cut"), record(4, outcome="client_gone")]
    fresh = await Database.open(url := new_database())
    await put(fresh, *batch)
    old_url = new_database()
    with monkeypatch.context() as patched:
        patched.setattr(database, "HEAD", migrations.REVISIONS[0])
        patched.setattr(database, "_upgrade", _upgrade_to(migrations.REVISIONS[0]))
        old = await Database.open(old_url)
    async with old.write() as connection:
        await connection.execute(insert(tables.requests), await rows(fresh, tables.requests))
        assert (
            await connection.scalar(text("SELECT version_num FROM alembic_version"))
            == (migrations.REVISIONS[0])
        )
    await old.close()
    upgraded = await Database.open(old_url)
    for table in (tables.requests, tables.daily, tables.daily_tags):
        assert await rows(upgraded, table) == await rows(fresh, table), table.name
    assert len(await rows(upgraded, tables.daily)) > 2
    await upgraded.close()
    await fresh.close()
    assert url != old_url


def _upgrade_to(revision: str) -> Callable[[Connection], None]:
    def upgrade(connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    return upgrade
