"""Sums of the rows that were there before the sums: made in the background, hour by hour.

An upgrade that made them all at once would hold the database for minutes. The newest hour comes
first, as it is looked at most. Each is made of its rows while others write, and put in place in one
short transaction, which also notes how far it has come: whoever is interrupted goes on there. Rows
that are booked meanwhile are added by who books them, so an hour is only put in place if it has as
many rows as were read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic, time
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.accounting.buckets import SPANS, Tally, tally, written
from app.accounting.database import UNAVAILABLE, Database
from app.accounting.tables import bucket_backfill, buckets, requests
from app.telemetry.logs import log

HOUR_US = 3_600_000_000
_PAGE = 200
"""Rows that are read and summed before requests have their turn: some ten milliseconds."""
_TRIES = 3
_TELL_SECONDS = 10.0
_RETRY_SECONDS = 30.0
_READ = tuple(
    requests.c[name]
    for name in (
        "id", "at_us", "route", "model", "decision", "status", "outcome", "cost_estimated",
        "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens",
        "reasoning_tokens", "cost_nano", "baseline_cost_nano", "saved_nano", "duration_seconds",
        "first_token_seconds", "overhead_seconds", "predictions", "attempts",
    )
)  # fmt: skip


async def reached(database: Database) -> int | None:
    """From when on sums are complete, in microseconds since 1970; None: all are."""
    async with database.read() as connection:
        return await reached_in(connection)


async def keep_on(database: Database) -> None:
    """Make what is missing, by one process at a time, until nothing is."""
    while True:
        try:
            if await reached(database) is None:
                return
            async with database.alone("backfill") as mine:
                if mine:
                    await complete(database)
                    return
        except UNAVAILABLE as error:
            log.warning("the dashboard's sums are not complete yet: %s", type(error).__name__)
        await asyncio.sleep(_RETRY_SECONDS)


async def complete(database: Database, now: float | None = None) -> None:
    """Make every sum that is missing and still wanted. Nobody else may be at it."""
    now = time() if now is None else now
    oldest = {span: int((now - kept) * 1e6) for span, kept in SPANS.items()}
    told, days = monotonic(), 0.0
    while (until := await reached(database)) is not None:
        async with database.read() as connection:
            newest = await connection.scalar(
                select(func.max(requests.c.at_us)).where(requests.c.at_us < until)
            )
        if newest is None or newest < min(oldest.values()):
            async with database.write() as connection:
                await connection.execute(delete(bucket_backfill))
            log.info("the dashboard's sums are complete")
            return
        start = newest - newest % HOUR_US
        await _hour(database, start, oldest)
        days = (now - start / 1e6) / 86_400
        if monotonic() - told > _TELL_SECONDS:
            told = monotonic()
            log.info("the dashboard's sums are made of the last %.1f days", days)


async def _hour(database: Database, start: int, oldest: dict[int, int]) -> None:
    for attempt in range(_TRIES + 1):
        made: Tally = {}
        count, after = 0, (start, "")
        if attempt < _TRIES:
            count, after = await _read(database, start, made)
        async with database.write() as connection:
            if not database.is_sqlite:
                # Who books has added to these sums before it commits, or waits until this has.
                await connection.execute(text("LOCK TABLE buckets IN EXCLUSIVE MODE"))
            # What came in since, and the whole hour where it never was the same twice.
            while page := await _page(connection, start, after):
                count, after = count + len(page), (page[-1]["at_us"], page[-1]["id"])
                tally(page, made)
            hour = requests.c.at_us.between(start, start + HOUR_US - 1)
            there = await connection.scalar(select(func.count()).where(hour))
            if there == count:
                await _put(connection, start, made, oldest)
                return


async def _read(database: Database, start: int, made: Tally) -> tuple[int, tuple[int, str]]:
    """Sum up an hour's rows; returns how many there are, and the last one."""
    count, after = 0, (start, "")
    while True:
        async with database.read() as connection:
            page = await _page(connection, start, after)
        if not page:
            return count, after
        count, after = count + len(page), (page[-1]["at_us"], page[-1]["id"])
        tally(page, made)
        await asyncio.sleep(0)


async def _page(
    connection: AsyncConnection, start: int, after: tuple[int, str]
) -> Sequence[dict[str, Any]]:
    at, last = after
    c = requests.c
    # The first condition is for the index, which knows nothing of the second.
    later = (c.at_us > at) | ((c.at_us == at) & (c.id > last))
    wanted = select(*_READ).where(c.at_us >= at, c.at_us < start + HOUR_US, later)
    found = await connection.execute(wanted.order_by(c.at_us, c.id).limit(_PAGE))
    return [dict(row) for row in found.mappings()]


async def _put(
    connection: AsyncConnection, start: int, made: Tally, oldest: dict[int, int]
) -> None:
    own = buckets.c.start_us.between(start, start + HOUR_US - 1)
    await connection.execute(delete(buckets).where(buckets.c.span_seconds.in_(SPANS), own))
    kept = {key: one for key, one in made.items() if key.start_us >= oldest[key.span_seconds]}
    await written(connection, kept)
    await connection.execute(bucket_backfill.update().values(from_us=start))


async def reached_in(connection: AsyncConnection) -> int | None:
    """The same, within a transaction."""
    found = await connection.scalar(select(bucket_backfill.c.from_us))
    return None if found is None else int(found)
