"""Messages of the local messenger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0008"
down_revision = "v0007"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "channel_message",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("is_delivered", sa.Boolean(), nullable=False),
        sa.Column("content_ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("image_ciphertext", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_channel_message"),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name="fk_channel_message_instance_id_instance"
        ),
    )
    op.create_index("ix_channel_message_chat", "channel_message", ["instance_id", "channel"])
