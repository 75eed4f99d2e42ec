"""Whether an instance may hibernate."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"


def upgrade() -> None:
    """Adds the setting, which is on for the instances that exist."""
    op.add_column(
        "instance",
        sa.Column("may_hibernate", sa.Boolean(), nullable=False, server_default=sa.true()),
    )
