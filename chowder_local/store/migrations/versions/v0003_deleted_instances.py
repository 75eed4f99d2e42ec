"""Deleted instances leave no content."""

from __future__ import annotations

from alembic import op

revision = "v0003"
down_revision = "v0002"

CONTENT = ("session", "key_grant", "conversation_history", "idempotent_answer")


def upgrade() -> None:
    """Erases what instances that are terminated have left."""
    op.create_index("ix_key_grant_instance_id", "key_grant", ["instance_id"])
    op.execute(
        "UPDATE instance SET openclaw_config_ciphertext = NULL, error_message = NULL, "
        "origin_snapshot_id = NULL WHERE status = 'terminated'"
    )
    for table in CONTENT:
        op.execute(
            f"DELETE FROM {table} WHERE instance_id IN "  # noqa: S608  (names of ours)
            "(SELECT id FROM instance WHERE status = 'terminated')"
        )
