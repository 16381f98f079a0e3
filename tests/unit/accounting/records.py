"""Settled requests of our own making, and a look into the ledger."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, select

from app.accounting.booking import Line
from app.accounting.database import Database
from app.accounting.entries import entry, line
from app.exchange.record import Attempt, Prediction, Record
from app.exchange.usage import Usage

NOON = 1_764_072_000.0
"""25 November 2025, 12:00 UTC."""
DAY = 20_417
"""That day's number."""


def record(number: int = 0, **fields: Any) -> Record:
    """A request that went well, with other fields on top."""
    standard: dict[str, Any] = {
        "route": "auto",
        "decision": "learned",
        "reason": "cheapest_good_enough",
        "speed": "encoded",
        "key_id": "key_1",
        "tags": ("team-a",),
        "model": "small",
        "upstream": "sim",
        "status": 200,
        "outcome": "ok",
        "attempts": [Attempt("sim", "small", "ok", 0.1, 200)],
        "usage": Usage(100, 20, cached_tokens=10, reasoning_tokens=5),
        "cost": 1_000,
        "baseline_cost": 5_000,
        "duration_seconds": 0.2,
        "at": NOON + number,
        "predictions": (Prediction("small", 0.8, 0.7, 0.9, 900, eligible=True),),
    }
    return Record(f"req_{number}", 1.0, 1.1, **(standard | fields))


def lines(*records: Record) -> list[Line]:
    """As a journal segment would give them."""
    found, end = [], 0
    for one in records:
        written = line(one)
        end += len(written)
        told = entry(written.rstrip(b"\n"))
        assert told is not None
        found.append(Line(end, told))
    return found


async def rows(database: Database, table: Table) -> list[dict[str, Any]]:
    """All rows of a table, by their keys."""
    async with database.read() as connection:
        found = await connection.execute(select(table).order_by(*table.primary_key))
        return [dict(row) for row in found.mappings()]
