"""Sums of a minute, ten minutes and an hour; those of the rows that are there are made now.

Rows are read in pages, so that a gateway that serves meanwhile has its turn between two of them.
The shape of `detail` is today's: a revision that changes it makes these sums anew.
"""

from __future__ import annotations

from time import time
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.accounting import entries
from app.accounting.buckets import SPANS, Key, keys_of, note

revision = "r0004_buckets"
down_revision = "r0003_keys"

_MEASURES = (
    "requests", "failed", "unpriced", "estimated",
    "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
    "cost_nano", "baseline_cost_nano", "saved_nano",
)  # fmt: skip
_PAGE = 300
_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_REQUESTS = sa.table(
    "requests",
    *map(sa.column, ("id", "at_us", "route", "model", "decision", "status", "outcome")),
    *map(sa.column, _MEASURES[4:]),
    sa.column("cost_estimated", sa.Boolean),
    *map(sa.column, ("duration_seconds", "first_token_seconds", "overhead_seconds")),
    sa.column("predictions", _JSON),
    sa.column("attempts", _JSON),
)


def upgrade() -> None:
    buckets = op.create_table(
        "buckets",
        sa.Column("span_seconds", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("start_us", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("route", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        *(sa.Column(measure, sa.BigInteger, nullable=False) for measure in _MEASURES),
        sa.Column("detail", _JSON, nullable=False),
    )
    sums: dict[Key, dict[str, int]] = {}
    details: dict[Key, dict[str, Any]] = {}
    now = time()
    oldest = {span: int((now - kept) * 1e6) for span, kept in SPANS.items()}
    at, last = min(oldest.values()), ""
    while page := _page(at, last):
        for row in page:
            told = entries.sums([row])
            for key in keys_of(row):
                if key.start_us >= oldest[key.span_seconds]:
                    total = sums.setdefault(key, dict.fromkeys(_MEASURES, 0))
                    for name in _MEASURES:
                        total[name] += told[name]
                    note(details.setdefault(key, {}), row)
        at, last = page[-1]["at_us"], page[-1]["id"]
    made = [{**key._asdict(), **sums[key], "detail": details[key]} for key in sums]
    for first in range(0, len(made), _PAGE):
        op.bulk_insert(buckets, made[first : first + _PAGE])


def _page(at: int, last: str) -> list[dict[str, Any]]:
    c = _REQUESTS.c
    after = (c.at_us > at) | ((c.at_us == at) & (c.id > last))
    # The first condition is for the index, which knows nothing of the second.
    rows = sa.select(_REQUESTS).where(c.at_us >= at, after).order_by(c.at_us, c.id).limit(_PAGE)
    return [dict(row) for row in op.get_bind().execute(rows).mappings()]
