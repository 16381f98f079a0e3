"""Sums a day, which outlive the rows they are made of; those that are there are summed up now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0002_daily"
down_revision = "r0001_requests"

_MEASURES = {
    "requests": "count(*)",
    "failed": "sum(CASE WHEN outcome IN ('ok', 'client_gone') THEN 0 ELSE 1 END)",
    "unpriced": "sum(CASE WHEN cost_nano IS NULL AND CAST(attempts AS TEXT) <> '[]' "
    "THEN 1 ELSE 0 END)",
    "estimated": "sum(CASE WHEN cost_estimated THEN 1 ELSE 0 END)",
    "input_tokens": "coalesce(sum(input_tokens), 0)",
    "cached_tokens": "coalesce(sum(cached_tokens), 0)",
    "cache_write_tokens": "coalesce(sum(cache_write_tokens), 0)",
    "output_tokens": "coalesce(sum(output_tokens), 0)",
    "reasoning_tokens": "coalesce(sum(reasoning_tokens), 0)",
    "cost_nano": "coalesce(sum(cost_nano), 0)",
    "baseline_cost_nano": "coalesce(sum(CASE WHEN saved_nano IS NOT NULL "
    "THEN baseline_cost_nano END), 0)",
    "saved_nano": "coalesce(sum(saved_nano), 0)",
}
_DAY = "CAST(at_us / 86400000000 AS INTEGER)"


def upgrade() -> None:
    _table("daily", "route", "model", "upstream", "key_id")
    _table("daily_tags", "tag")
    columns, sums = ", ".join(_MEASURES), ", ".join(_MEASURES.values())
    names = "route, coalesce(model, 'none'), coalesce(upstream, 'none'), coalesce(key_id, 'none')"
    # What is joined is made of the constants above.
    op.execute(
        f"INSERT INTO daily (day, route, model, upstream, key_id, {columns}) "  # noqa: S608
        f"SELECT {_DAY}, {names}, {sums} FROM requests GROUP BY 1, 2, 3, 4, 5"
    )
    if op.get_bind().dialect.name == "sqlite":
        tags = "SELECT DISTINCT value AS tag, requests.id AS of_id FROM requests, json_each(tags)"
    else:
        tags = "SELECT DISTINCT jsonb_array_elements_text(tags) AS tag, id AS of_id FROM requests"
    op.execute(
        f"INSERT INTO daily_tags (day, tag, {columns}) "  # noqa: S608
        f"SELECT {_DAY}, coalesce(tag, 'none'), {sums} FROM requests "
        f"LEFT JOIN ({tags}) AS tagged ON of_id = requests.id GROUP BY 1, 2"
    )


def _table(name: str, *keys: str) -> None:
    op.create_table(
        name,
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(key, sa.Text, primary_key=True) for key in keys),
        *(sa.Column(measure, sa.BigInteger, nullable=False) for measure in _MEASURES),
    )
