"""When agents have to be in memory for their next scheduled job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0007"
down_revision = "v0006"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "due_job",
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", name="pk_due_job"),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name="fk_due_job_instance_id_instance"
        ),
    )
