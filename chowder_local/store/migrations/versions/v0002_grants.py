"""What scoped keys may do with which instances, and what is known of subscriptions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds a table and two columns; what is there stays as it is."""
    op.create_table(
        "key_grant",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("permissions", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "instance_id", name="pk_key_grant"),
        sa.ForeignKeyConstraint(["key_id"], ["api_key.id"], "fk_key_grant_key_id_api_key"),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], "fk_key_grant_instance_id_instance"
        ),
    )
    op.add_column("organization", sa.Column("stripe_customer_id", sa.String(), nullable=True))
    op.add_column("organization", sa.Column("stripe_subscription_id", sa.String(), nullable=True))
