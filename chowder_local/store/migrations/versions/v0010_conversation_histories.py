"""What was said and answered in conversations, by digests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Adds a table; of conversations that are there nothing is known."""
    op.create_table(
        "conversation_history",
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("session_key", sa.String(), nullable=False),
        sa.Column("openclaw_session_id", sa.String(), nullable=True),
        sa.Column("items", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instance.id"],
            name="fk_conversation_history_instance_id_instance",
        ),
        sa.PrimaryKeyConstraint("instance_id", "session_key", name="pk_conversation_history"),
    )
