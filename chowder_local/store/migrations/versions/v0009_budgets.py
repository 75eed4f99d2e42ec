"""Budgets of organizations and instances."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0009"
down_revision = "v0008"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "budget",
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("instance_id", sa.String(), nullable=True),
        sa.Column("per", sa.String(), nullable=False),
        sa.Column("usd", sa.Float(), nullable=True),
        sa.Column("tokens", sa.Integer(), nullable=True),
        sa.Column("model_calls", sa.Integer(), nullable=True),
        sa.Column("since", sa.DateTime(), nullable=False),
        *(
            sa.Column(f"{each}_{name}", kind(), nullable=False)
            for each in ("spent", "reserved")
            for name, kind in (
                ("usd", sa.Float),
                ("tokens", sa.Integer),
                ("model_calls", sa.Integer),
            )
        ),
        sa.PrimaryKeyConstraint("owner_id", name="pk_budget"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name="fk_budget_organization_id_organization"
        ),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name="fk_budget_instance_id_instance"
        ),
    )
    op.create_index("ix_budget_instance_id", "budget", ["instance_id"])
