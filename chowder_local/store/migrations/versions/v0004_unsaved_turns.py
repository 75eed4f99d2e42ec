"""Turns that a machine would take along."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision = "v0003"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "unsaved_turn",
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("session_key", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("is_lost", sa.Boolean(), nullable=False),
        sa.Column("items_ciphertext", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("instance_id", "session_key", "at", name="pk_unsaved_turn"),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name="fk_unsaved_turn_instance_id_instance"
        ),
    )
