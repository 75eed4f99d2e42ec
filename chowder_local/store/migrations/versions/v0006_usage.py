"""What model calls have cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

COUNTS = (
    "calls",
    "unmetered_calls",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "long_cache_write_tokens",
    "output_tokens",
)


def upgrade() -> None:
    """Adds a table; what is there stays as it is."""
    op.create_table(
        "usage",
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("session_key", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("is_billed", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in COUNTS),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], "fk_usage_instance_id_instance"),
        sa.PrimaryKeyConstraint(
            "instance_id",
            "day",
            "session_key",
            "provider",
            "model",
            "is_billed",
            name="pk_usage",
        ),
    )
