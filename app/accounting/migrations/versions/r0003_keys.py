"""Keys of clients; the number of their last change and the mark of the key secret in use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "r0003_keys"
down_revision = "r0002_daily"


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("former_hash", sa.Text),
        sa.Column("former_until_us", sa.BigInteger),
        sa.Column("terms", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("revoked_us", sa.BigInteger),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("keys_version", "keys", ["version"], unique=True)
    changes = op.create_table(
        "key_changes",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("secret_mark", sa.Text),
    )
    op.bulk_insert(changes, [{"one": 1, "version": 0}])
