"""The first schema."""

from __future__ import annotations

from alembic import op

from chowder_local.store.tables import METADATA

revision = "v0001"
down_revision = None


def upgrade() -> None:
    """Makes all tables."""
    # When a second revision is added, this one has to list its tables itself.
    METADATA.create_all(op.get_bind())
