"""What the page shows, as CSV: sums by step, route and model, or the newest requests."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from sqlalchemy import select

from app.accounting.database import Database
from app.accounting.tables import MEASURES, buckets
from app.dashboard.decisions import LISTED, decisions
from app.dashboard.span import Wanted
from app.exchange.money import usd_text

MOST_REQUESTS = 100_000
_PAGE = 500


async def sums(database: Database, wanted: Wanted) -> AsyncIterator[str]:
    """One line for each bucket, route and model of the span."""
    span, c = wanted.span, buckets.c
    named = [f"{one.removesuffix('_nano')}_usd" if _is_money(one) else one for one in MEASURES]
    yield _lines([("start", "seconds", "route", "model", *named)])
    statement = (
        select(buckets)
        .where(
            c.span_seconds == span.bucket_seconds,
            c.start_us >= span.since * 1_000_000,
            c.start_us < span.until * 1_000_000,
        )
        .order_by(c.start_us, c.route, c.model)
    )
    async with database.read() as connection:
        found = await connection.stream(statement)
        async for page in found.mappings().partitions(_PAGE):
            yield _lines(
                (
                    _moment(row["start_us"]), row["span_seconds"], row["route"], row["model"],
                    *(usd_text(row[one]) if _is_money(one) else row[one] for one in MEASURES),
                )
                for row in page
                if wanted.admits(row["route"], row["model"])
            )  # fmt: skip


async def requests(database: Database, wanted: Wanted) -> AsyncIterator[str]:
    """One line for each request of the span, the newest first, at most MOST_REQUESTS."""
    yield _lines([("at", *(name for name in LISTED if name != "at_us"))])
    left, before = MOST_REQUESTS, None
    while left and (page := await decisions(database, wanted, min(left, _PAGE), before)):
        yield _lines(
            (_moment(row["at_us"]), *(row[name] for name in LISTED if name != "at_us"))
            for row in page
        )
        left -= len(page)
        before = (page[-1]["at_us"], page[-1]["id"])


def _is_money(measure: str) -> bool:
    return measure.endswith("_nano")


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat()


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
