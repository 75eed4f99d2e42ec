"""The clocks of agents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0005"
down_revision = "v0004"


def upgrade() -> None:
    """Adds the clock, which nobody has set so far."""
    op.add_column("instance", sa.Column("clock", sa.JSON(), nullable=True))
