"""Booking a batch of settled requests: rows, sums and the journal's position in one transaction.

Because the position is committed with what it stands for, a batch whose commit was cut off by a
crash is either there or not, and the next attempt knows which. Request ids are unique besides.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Dialect, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.accounting import buckets, entries
from app.accounting.database import UNAVAILABLE, Database
from app.accounting.inserting import Insert, Row
from app.accounting.tables import (
    DAY_US,
    MEASURES,
    daily,
    daily_tags,
    journal_positions,
    prompts,
    requests,
)

_BREATH = 25
"""Requests that are worked out before others have their turn: half a millisecond's worth."""


class Line(NamedTuple):
    """An entry of a journal segment, and where in the segment it ends."""

    end: int
    told: dict[str, Any]


async def book(database: Database, segment: str, lines: Sequence[Line], end: int) -> int:
    """Book the lines of a segment that are not booked yet; returns how many were new.

    `end` is where reading goes on: the end of the last line, or of what was unreadable after it.
    """
    told = {line.told["request_id"]: line.told for line in lines}
    # Nearly always all of them are new, and what is worked out before holds up no other process.
    batch = await _worked_out(told.values())
    async with database.write() as connection:
        booked = await position(connection, segment)
        fresh = {line.told["request_id"]: line.told for line in lines if line.end > booked}
        if fresh:
            there = select(requests.c.id).where(requests.c.id.in_(list(fresh)))
            for known in await connection.scalars(there):
                del fresh[known]
        if len(fresh) < len(told):
            batch = await _worked_out(fresh.values())
        prepared = _prepared(connection.dialect)
        await prepared.requests.run(connection, batch.requests)
        await prepared.prompts.run(connection, batch.prompts)
        await prepared.daily.run(connection, _summed(daily, batch.by_names))
        await prepared.daily_tags.run(connection, _summed(daily_tags, batch.by_tag))
        await buckets.add(connection, batch.buckets)
        # Who reads a segment from its beginning again must not move what is booked back.
        reached = {"segment": segment, "position": max(end, booked)}
        await prepared.position.run(connection, [reached])
    return len(batch.requests)


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


class _Prepared(NamedTuple):
    """Every statement that a booking makes."""

    requests: Insert
    prompts: Insert
    daily: Insert
    daily_tags: Insert
    position: Insert


@cache
def _prepared(dialect: Dialect) -> _Prepared:
    # ON CONFLICT is not in the standard, but the two spell it alike.
    insert: Any = sqlite.insert if dialect.name == "sqlite" else postgresql.insert

    def added(table: Table) -> Insert:
        statement = insert(table)
        sums = {name: table.c[name] + statement.excluded[name] for name in MEASURES}
        keys = list(table.primary_key)
        return Insert(statement.on_conflict_do_update(index_elements=keys, set_=sums), dialect)

    statement = insert(journal_positions)
    position = statement.on_conflict_do_update(
        index_elements=["segment"], set_={"position": statement.excluded.position}
    )
    return _Prepared(
        requests=Insert(insert(requests), dialect),
        prompts=Insert(insert(prompts).on_conflict_do_nothing(), dialect),
        daily=added(daily),
        daily_tags=added(daily_tags),
        position=Insert(position, dialect),
    )


Sums = dict[tuple[Any, ...], dict[str, Any]]
"""Measures by the primary key of their row."""


@dataclass(slots=True)
class _Batch:
    """What is to be written of some requests."""

    requests: list[Row] = field(default_factory=list)
    prompts: list[Row] = field(default_factory=list)
    by_names: Sums = field(default_factory=dict)
    by_tag: Sums = field(default_factory=dict)
    buckets: buckets.Tally = field(default_factory=dict)


async def _worked_out(told: Iterable[dict[str, Any]]) -> _Batch:
    """A few at a time: requests have their turn between."""
    batch, left = _Batch(), iter(told)
    while some := list(islice(left, _BREATH)):
        rows = [entries.request_row(one) for one in some]
        batch.requests += rows
        batch.prompts += [row for one in some if (row := entries.prompt_row(one))]
        _add_sums(rows, batch)
        buckets.tally(rows, batch.buckets)
        await asyncio.sleep(0)
    return batch


def _add_sums(rows: list[Row], batch: _Batch) -> None:
    by_names: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    by_tag: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        day = row["at_us"] // DAY_US
        names = (row[name] or "none" for name in ("route", "model", "upstream", "key_id"))
        by_names[(day, *names)].append(row)
        for tag in row["tags"] or ["none"]:
            by_tag[day, tag].append(row)
    for sums, groups in ((batch.by_names, by_names), (batch.by_tag, by_tag)):
        for group, mine in groups.items():
            buckets.merge(sums.setdefault(group, {}), entries.sums(mine))


def _summed(table: Table, sums: Sums) -> list[Row]:
    """Rows to be added to a table.

    In one order everywhere: processes that add to the same sums must not wait in a circle.
    """
    keys = [column.name for column in table.primary_key]
    return [
        {**dict(zip(keys, group, strict=True)), **measures}
        for group, measures in sorted(sums.items(), key=itemgetter(0))
    ]
