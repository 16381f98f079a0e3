"""Booking a batch of settled requests: rows, sums and the journal's position in one transaction.

Because the position is committed with what it stands for, a batch whose commit was cut off by a
crash is either there or not, and the next attempt knows which. Request ids are unique besides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.accounting import entries
from app.accounting.database import UNAVAILABLE, Database
from app.accounting.entries import Row
from app.accounting.tables import (
    DAY_US,
    MEASURES,
    daily,
    daily_tags,
    journal_positions,
    prompts,
    requests,
)


class Line(NamedTuple):
    """An entry of a journal segment, and where in the segment it ends."""

    end: int
    told: dict[str, Any]


async def book(database: Database, segment: str, lines: Sequence[Line], end: int) -> int:
    """Book the lines of a segment that are not booked yet; returns how many were new.

    `end` is where reading goes on: the end of the last line, or of what was unreadable after it.
    """
    async with database.write() as connection:
        booked = await position(connection, segment)
        fresh = [line.told for line in lines if line.end > booked]
        rows = await _insert(connection, [entries.request_row(told) for told in fresh])
        kept = [row for told in fresh if (row := entries.prompt_row(told))]
        if kept:
            new = {row["id"] for row in rows}
            await _insert_ignoring(connection, prompts, [row for row in kept if row["id"] in new])
        await _sum_up(connection, rows)
        statement = _upsert(connection, journal_positions).values(segment=segment, position=end)
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=["segment"], set_={"position": statement.excluded.position}
            )
        )
    return len(rows)


async def position(connection: AsyncConnection, segment: str) -> int:
    """How far a segment is booked."""
    column = journal_positions.c.position
    found = await connection.scalar(select(column).where(journal_positions.c.segment == segment))
    return int(found or 0)


async def forget(database: Database, segments: Iterable[str]) -> None:
    """Drop the positions of segments whose files are gone."""
    async with database.write() as connection:
        gone = journal_positions.c.segment.in_(list(segments))
        await connection.execute(journal_positions.delete().where(gone))


def is_faulty(error: Exception) -> bool:
    """Whether what was to be booked is at fault, rather than the database."""
    if isinstance(error, DataError | IntegrityError):
        return True
    if isinstance(error, DBAPIError):
        # The driver of PostgreSQL tells more by the standard's classes: 22 data, 23 integrity.
        return str(getattr(error.orig, "sqlstate", None) or "")[:2] in ("22", "23")
    return not isinstance(error, UNAVAILABLE)


async def _insert(connection: AsyncConnection, rows: list[Row]) -> list[Row]:
    """Insert rows of `requests`; returns those that were not there."""
    if not rows:
        return []
    statement = _upsert(connection, requests).on_conflict_do_nothing(index_elements=["id"])
    result = await connection.execute(statement.returning(requests.c.id), rows)
    new = set(result.scalars())
    found: list[Row] = []
    for row in rows:
        if row["id"] in new:
            new.remove(row["id"])  # twice in one batch is once
            found.append(row)
    return found


async def _insert_ignoring(connection: AsyncConnection, table: Table, rows: list[Row]) -> None:
    if rows:
        statement = _upsert(connection, table).on_conflict_do_nothing(index_elements=["id"])
        await connection.execute(statement, rows)


async def _sum_up(connection: AsyncConnection, rows: list[Row]) -> None:
    by_names: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    by_tag: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        day = row["at_us"] // DAY_US
        names = (row[name] or "none" for name in ("route", "model", "upstream", "key_id"))
        by_names[(day, *names)].append(row)
        for tag in row["tags"]:
            by_tag[day, tag].append(row)
    await _add(connection, daily, by_names)
    await _add(connection, daily_tags, by_tag)


async def _add(
    connection: AsyncConnection, table: Table, groups: dict[tuple[Any, ...], list[Row]]
) -> None:
    if not groups:
        return
    keys = [column.name for column in table.primary_key]
    # In one order everywhere: processes that add to the same sums must not wait in a circle.
    values = [
        {**dict(zip(keys, group, strict=True)), **entries.sums(rows)}
        for group, rows in sorted(groups.items())
    ]
    statement = _upsert(connection, table)
    added = {name: table.c[name] + statement.excluded[name] for name in MEASURES}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=added), values
    )


def _upsert(connection: AsyncConnection, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT, which the two databases spell alike."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)
