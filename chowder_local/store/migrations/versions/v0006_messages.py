"""What agents say without being asked, and the webhooks that they send."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0006"
down_revision = "v0005"

TABLES = ("unasked_message", "inbox_request")


def upgrade() -> None:
    """Makes the tables."""
    for name in TABLES:
        op.create_table(
            name,
            sa.Column("instance_id", sa.String(), nullable=False),
            sa.Column("number", sa.Integer(), nullable=False),
            sa.Column("at", sa.DateTime(), nullable=False),
            sa.Column("size_bytes", sa.Integer(), nullable=False),
            sa.Column("content_ciphertext", sa.LargeBinary(), nullable=False),
            sa.PrimaryKeyConstraint("instance_id", "number", name=f"pk_{name}"),
            sa.ForeignKeyConstraint(
                ["instance_id"], ["instance.id"], name=f"fk_{name}_instance_id_instance"
            ),
        )
