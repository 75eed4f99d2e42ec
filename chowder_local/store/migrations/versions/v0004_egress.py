"""What was chosen about an instance's way out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds a column; instances that are there follow the server's setting."""
    op.add_column("instance", sa.Column("egress", sa.String(), nullable=True))
