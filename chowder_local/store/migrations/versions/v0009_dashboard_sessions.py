"""Sessions of the dashboard, a row each; before, there was a list of those that had ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds a table. Sessions that are there are in none: whoever has one signs in again."""
    op.create_table(
        "dashboard_session",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"], ["api_key.id"], name="fk_dashboard_session_key_id_api_key"
        ),
        sa.PrimaryKeyConstraint("sha256", name="pk_dashboard_session"),
    )
    op.execute("DELETE FROM meta WHERE name = 'dashboard.ended'")
