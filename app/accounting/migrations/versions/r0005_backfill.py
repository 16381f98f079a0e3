"""How far sums are made of the rows that were there before them (`app.accounting.backfill`).

Where there are sums already, they were made with their table.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0005_backfill"
down_revision = "r0004_buckets"

_HOUR_US = 3_600_000_000


def upgrade() -> None:
    op.create_table(
        "bucket_backfill",
        sa.Column("from_us", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    op.execute(
        "INSERT INTO bucket_backfill (from_us) "  # noqa: S608 - made of the constant above
        f"SELECT (newest / {_HOUR_US} + 1) * {_HOUR_US} "
        "FROM (SELECT max(at_us) AS newest FROM requests) AS rows "
        "WHERE newest IS NOT NULL AND NOT EXISTS (SELECT 1 FROM buckets)"
    )
