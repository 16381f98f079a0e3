"""The last decisions, and all that is kept of one of them, from the ledger's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, and_, or_, select

from app.accounting.database import Database
from app.accounting.tables import prompts, requests
from app.dashboard.evidence import Evidence
from app.dashboard.span import Wanted
from app.exchange.money import usd_text
from app.routing.explain import REASONS

_LISTED = (
    "id", "at_us", "route", "model", "upstream", "decision", "reason", "speed", "status",
    "outcome", "key_id", "input_tokens", "output_tokens", "cost_nano", "cost_estimated",
    "baseline_cost_nano", "saved_nano", "duration_seconds", "first_token_seconds",
    "overhead_seconds",
)  # fmt: skip
LISTED = tuple(
    f"{name.removesuffix('_nano')}_usd" if name.endswith("_nano") else name for name in _LISTED
)
"""The fields of a listed decision."""


async def decisions(
    database: Database, wanted: Wanted, limit: int, before: tuple[int, str] | None = None
) -> list[dict[str, Any]]:
    """The newest first; of those before a time in microseconds and an id, if given."""
    async with database.read() as connection:
        columns = [requests.c[name] for name in _LISTED]
        found = await connection.execute(newest(select(*columns), wanted, before).limit(limit))
        return [_told(row) for row in found.mappings()]


async def decision(
    database: Database, request_id: str, evidence: Evidence
) -> dict[str, Any] | None:
    """A request with its candidates, neighbours and attempts; None if it is not in the ledger.

    The prompt's text is told only where the configuration keeps it now.
    """
    async with database.read() as connection:
        row_of = select(requests).where(requests.c.id == request_id)
        row = (await connection.execute(row_of)).mappings().one_or_none()
        if row is None:
            return None
        kept_of = select(prompts).where(prompts.c.id == request_id)
        found = (await connection.execute(kept_of)).mappings().one_or_none()
        kept = None if found is None else dict(found)
    return {
        **_told({name: row[name] for name in _LISTED}),
        "explanation": REASONS.get(row["reason"]),
        "tags": row["tags"],
        "cached_tokens": row["cached_tokens"],
        "cache_write_tokens": row["cache_write_tokens"],
        "reasoning_tokens": row["reasoning_tokens"],
        "decide_seconds": row["decide_seconds"],
        "upstream_seconds": row["upstream_seconds"],
        "upstream_cost_usd": _usd(row["upstream_cost_nano"]),
        "candidates": [
            {
                "model": one["model"],
                "quality": one["quality"],
                "quality_low": one["low"],
                "quality_high": one["high"],
                "expected_cost_usd": _usd(one["cost"]),
                "eligible": one["eligible"],
            }
            for one in row["predictions"]
        ],
        "attempts": [
            {
                "upstream": one["upstream"],
                "model": one["model"],
                "outcome": one["outcome"],
                "seconds": one["seconds"],
                "status": one.get("status"),
                "cost_usd": _usd(one.get("cost")),
                "estimated": bool(one.get("estimated")),
            }
            for one in row["attempts"]
        ],
        **await evidence.of(row["route"], kept),
        "prompt": kept["text"] if kept is not None and evidence.keeps_text else None,
    }


def newest(statement: Select[Any], wanted: Wanted, before: tuple[int, str] | None) -> Select[Any]:
    """The rows of a span, the newest first."""
    c, span = requests.c, wanted.span
    statement = statement.where(c.at_us >= span.since * 1_000_000, c.at_us < span.until * 1_000_000)
    if wanted.route is not None:
        statement = statement.where(c.route == wanted.route)
    if wanted.model is not None:
        statement = statement.where(
            c.model.is_(None) if wanted.model == "none" else c.model == wanted.model
        )
    if before is not None:
        at, last = before
        # The first condition is for the index, which knows nothing of the second.
        earlier = or_(c.at_us < at, and_(c.at_us == at, c.id < last))
        statement = statement.where(c.at_us <= at, earlier)
    return statement.order_by(c.at_us.desc(), c.id.desc())


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        told: _usd(row[name]) if name.endswith("_nano") else row[name]
        for name, told in zip(_LISTED, LISTED, strict=True)
    }


def _usd(nano: int | None) -> str | None:
    return None if nano is None else usd_text(nano)
