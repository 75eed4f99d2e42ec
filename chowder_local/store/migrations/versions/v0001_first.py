"""The first schema."""

from __future__ import annotations

from alembic import op

from chowder_local.store.tables import METADATA

revision = "v0001"
down_revision = None


def upgrade() -> None:
    """Makes all tables."""
    # Once there is a second revision, this one has to spell out the tables as they were.
    METADATA.create_all(op.get_bind())
