"""The first schema: organizations, keys, instances, sessions and meta."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes all tables."""
    _owners()
    _instances()
    op.create_table(
        "meta",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_meta"),
    )


def _owners() -> None:
    op.create_table(
        "organization",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_organization"),
    )
    op.create_table(
        "model_key",
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "provider", name="pk_model_key"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], "fk_model_key_organization_id_organization"
        ),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("is_organization_key", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.Column("last_used_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("sha256", name="uq_api_key_sha256"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], "fk_api_key_organization_id_organization"
        ),
    )
    op.create_index("ix_api_key_organization_id", "api_key", ["organization_id"])


def _instances() -> None:
    op.create_table(
        "instance",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("model_provider", sa.String(), nullable=False),
        sa.Column("sandbox_id", sa.String(), nullable=False),
        sa.Column("sandbox_provider", sa.String(), nullable=False),
        sa.Column("openclaw_version", sa.String(), nullable=False),
        sa.Column("openclaw_config", sa.JSON(), nullable=True),
        sa.Column("region", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("gateway_url", sa.String(), nullable=True),
        sa.Column("born_at", sa.DateTime(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_instance"),
        sa.UniqueConstraint("sandbox_id", name="uq_instance_sandbox_id"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], "fk_instance_organization_id_organization"
        ),
    )
    op.create_index("ix_instance_organization_id_status", "instance", ["organization_id", "status"])
    op.create_index("ix_instance_status", "instance", ["status"])
    op.create_table(
        "session",
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("session_key", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "session_key", name="pk_session"),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], "fk_session_instance_id_instance"
        ),
    )
