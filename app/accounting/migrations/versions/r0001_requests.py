"""The ledger: a row a request, prompts where they are kept, and how far journals are booked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "r0001_requests"
down_revision = None

_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("upstream", sa.Text),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("speed", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text),
        sa.Column("tags", _JSON, nullable=False),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("cached_tokens", sa.BigInteger),
        sa.Column("cache_write_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("other_usage", _JSON),
        sa.Column("cost_nano", sa.BigInteger),
        sa.Column("cost_estimated", sa.Boolean, nullable=False),
        sa.Column("upstream_cost_nano", sa.BigInteger),
        sa.Column("baseline_cost_nano", sa.BigInteger),
        sa.Column("saved_nano", sa.BigInteger),
        sa.Column("duration_seconds", sa.Double, nullable=False),
        sa.Column("overhead_seconds", sa.Double),
        sa.Column("decide_seconds", sa.Double, nullable=False),
        sa.Column("upstream_seconds", sa.Double, nullable=False),
        sa.Column("first_token_seconds", sa.Double),
        sa.Column("predictions", _JSON, nullable=False),
        sa.Column("attempts", _JSON, nullable=False),
    )
    op.create_index("requests_at", "requests", ["at_us"])
    op.create_index("requests_route_at", "requests", ["route", "at_us"])
    op.create_index("requests_model_at", "requests", ["model", "at_us"])
    op.create_index("requests_key_at", "requests", ["key_id", "at_us"])
    op.create_table(
        "prompts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("embedding", sa.LargeBinary),
    )
    op.create_index("prompts_at", "prompts", ["at_us"])
    op.create_table(
        "journal_positions",
        sa.Column("segment", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
