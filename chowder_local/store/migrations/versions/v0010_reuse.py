"""Sandboxes that serve one instance after another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0010"
down_revision = "v0009"


def upgrade() -> None:
    """Adds the columns."""
    op.add_column(
        "organization",
        sa.Column("reuses_sandboxes", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column("warm_sandbox", sa.Column("organization_id", sa.String(), nullable=True))
