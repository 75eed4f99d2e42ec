"""Instances' OpenClaw configurations, which may hold credentials, encrypted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Encrypts what is there, as it is: it is JSON already."""
    connection = op.get_bind()
    op.add_column(
        "instance", sa.Column("openclaw_config_ciphertext", sa.LargeBinary(), nullable=True)
    )
    # As text: a type that knows JSON would read it, and write it in its own way.
    plain = connection.execute(
        sa.text("SELECT id, openclaw_config FROM instance WHERE openclaw_config IS NOT NULL")
    ).all()
    if plain:
        encrypt = op.get_context().opts["encrypt"]
        connection.execute(
            sa.text("UPDATE instance SET openclaw_config_ciphertext = :ciphertext WHERE id = :id"),
            [{"id": each.id, "ciphertext": encrypt(each.openclaw_config)} for each in plain],
        )
    op.drop_column("instance", "openclaw_config")
