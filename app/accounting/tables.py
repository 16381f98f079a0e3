"""The ledger's tables. docs/ledger.md says what each column means; times are UTC, in microseconds
since 1970, money is in nano-dollars, a day is its number since 1970-01-01.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.accounting.database import metadata

DAY_US = 86_400_000_000
"""Microseconds of a day. UTC as computers count it has no leap seconds."""

_JSON = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

requests = Table(
    "requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("route", Text, nullable=False),
    Column("model", Text),
    Column("upstream", Text),
    Column("decision", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("speed", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("key_id", Text),
    Column("tags", _JSON, nullable=False),
    Column("input_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("other_usage", _JSON),
    Column("cost_nano", BigInteger),
    Column("cost_estimated", Boolean, nullable=False),
    Column("upstream_cost_nano", BigInteger),
    Column("baseline_cost_nano", BigInteger),
    Column("saved_nano", BigInteger),
    Column("duration_seconds", Double, nullable=False),
    Column("overhead_seconds", Double),
    Column("decide_seconds", Double, nullable=False),
    Column("upstream_seconds", Double, nullable=False),
    Column("first_token_seconds", Double),
    Column("predictions", _JSON, nullable=False),
    Column("attempts", _JSON, nullable=False),
    Index("requests_at", "at_us"),
    Index("requests_route_at", "route", "at_us"),
    Index("requests_model_at", "model", "at_us"),
    Index("requests_key_at", "key_id", "at_us"),
)

prompts = Table(
    "prompts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("text", Text),
    Column("embedding", LargeBinary),
    Index("prompts_at", "at_us"),
)
"""Only where the configuration asks for it. An embedding is float32, little-endian."""

journal_positions = Table(
    "journal_positions",
    metadata,
    Column("segment", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
)
"""How far each journal segment is booked, written in the transaction that books it."""


def _measures() -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in MEASURES]


MEASURES = (
    "requests", "failed", "unpriced", "estimated",
    "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
    "cost_nano", "baseline_cost_nano", "saved_nano",
)  # fmt: skip
"""What is summed up a day. Unknown costs are counted in `unpriced` and are in no sum."""

daily = Table(
    "daily",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("route", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("upstream", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    *_measures(),
)
"""Sums of `requests`; `none` stands for no model, upstream or key. It outlives the rows."""

daily_tags = Table(
    "daily_tags",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("tag", Text, primary_key=True),
    *_measures(),
)
"""The same by tag: a request with two tags is in both sums, one without is in that of `none`."""

buckets = Table(
    "buckets",
    metadata,
    Column("span_seconds", Integer, primary_key=True, autoincrement=False),
    Column("start_us", BigInteger, primary_key=True, autoincrement=False),
    Column("route", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    *_measures(),
    Column("detail", _JSON, nullable=False),
)
"""Sums of a minute, ten minutes or an hour for the dashboard; `app.accounting.buckets` says what is
in `detail` and how long each is kept."""

bucket_backfill = Table(
    "bucket_backfill",
    metadata,
    Column("from_us", BigInteger, primary_key=True, autoincrement=False),
)
"""One row while sums are still made of rows that were there before them: from when on they are
complete."""
