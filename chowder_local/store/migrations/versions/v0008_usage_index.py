"""Sums over what model calls have cost, without the conversations."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds an index that has all that the sums are made of."""
    op.create_index(
        "ix_usage_sums",
        "usage",
        [
            "instance_id",
            "day",
            "model",
            "is_billed",
            "calls",
            "unmetered_calls",
            "input_tokens",
            "cached_tokens",
            "cache_write_tokens",
            "long_cache_write_tokens",
            "output_tokens",
        ],
    )
