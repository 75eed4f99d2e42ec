"""Answers that are kept for messages with an idempotency key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Adds a table, which is empty."""
    op.create_table(
        "idempotent_answer",
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("session_key", sa.String(), nullable=False),
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column("request_sha256", sa.String(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("body_ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instance.id"],
            name="fk_idempotent_answer_instance_id_instance",
        ),
        sa.PrimaryKeyConstraint(
            "instance_id", "session_key", "key_sha256", name="pk_idempotent_answer"
        ),
    )
    op.create_index("ix_idempotent_answer_created_at", "idempotent_answer", ["created_at"])
    op.create_index(
        "ix_idempotent_answer_instance_id_created_at",
        "idempotent_answer",
        ["instance_id", "created_at"],
    )
