"""Old rows go, their sums stay: one process at a time deletes what is past its days."""

from __future__ import annotations

import asyncio
from time import time

from sqlalchemy import Table, delete, select

from app.accounting import buckets
from app.accounting.database import UNAVAILABLE, Database
from app.accounting.tables import DAY_US, prompts, requests
from app.telemetry.logs import log

PAUSE_SECONDS = 3600.0
_ROWS = 1_000
"""Deleted in one transaction: others wait for it on SQLite."""
_BREATH_SECONDS = 0.05


async def tidy(database: Database, days: int, now: float | None = None) -> int:
    """Delete rows of days that ended more than `days` ago; returns how many requests went.

    Whole UTC days, counted back from the beginning of today. Does nothing where another process
    is at it, and leaves the rest for the next time where the database fails.
    """
    now = time() if now is None else now
    today = int(now * 1_000_000) // DAY_US
    before = (today - days) * DAY_US
    try:
        async with database.alone("retention") as mine:
            if not mine:
                return 0
            async with database.write() as connection:
                await buckets.tidy(connection, now)
            await _delete(database, prompts, before)
            return await _delete(database, requests, before)
    except UNAVAILABLE as error:
        log.warning("old rows of the ledger are still there: %s", type(error).__name__)
        return 0


async def _delete(database: Database, table: Table, before: int) -> int:
    total = 0
    while True:
        some = select(table.c.id).where(table.c.at_us < before).limit(_ROWS)
        async with database.write() as connection:
            result = await connection.execute(delete(table).where(table.c.id.in_(some)))
        total += result.rowcount
        if result.rowcount < _ROWS:
            return total
        await asyncio.sleep(_BREATH_SECONDS)
