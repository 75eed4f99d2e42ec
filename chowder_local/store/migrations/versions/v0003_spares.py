"""Blank sandboxes that wait for an instance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds a table; what is there stays as it is."""
    op.create_table(
        "spare",
        sa.Column("sandbox_id", sa.String(), nullable=False),
        sa.Column("likeness", sa.String(), nullable=False),
        sa.Column("gateway_url", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sandbox_id", name="pk_spare"),
    )
