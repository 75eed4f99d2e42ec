"""The jobs of copies that were switched off when these were made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0011"
down_revision = "v0010"


def upgrade() -> None:
    """Adds the column; of older copies it is not known."""
    op.add_column("instance", sa.Column("switched_off_jobs", sa.JSON(), nullable=True))
