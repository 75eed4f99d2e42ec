"""Who is signed in to the dashboard: a row for each session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlmodel import col, delete

from chowder_local.core.domain import KeyId
from chowder_local.store.tables import DashboardSessionRow

if TYPE_CHECKING:
    from datetime import datetime

    from chowder_local.store.database import Database


class DashboardSessionQueries:
    """Sessions, found by the SHA-256 of the token in the browser's cookie."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, token_digest: str, key_id: KeyId, *, now: datetime, expires_at: datetime
    ) -> None:
        """Keeps a new session, and forgets those that have expired."""
        async with self._database.writing() as session:
            expired = col(DashboardSessionRow.expires_at) <= now
            await session.exec(delete(DashboardSessionRow).where(expired))
            row = DashboardSessionRow(sha256=token_digest, key_id=key_id, expires_at=expires_at)
            session.add(row)

    async def key_id(self, token_digest: str, now: datetime) -> KeyId | None:
        """By which key a session began; None if there is no such session, or it has expired."""
        async with self._database.reading() as session:
            row = await session.get(DashboardSessionRow, token_digest)
            return None if row is None or row.expires_at <= now else KeyId(row.key_id)

    async def remove(self, token_digest: str) -> None:
        """Ends a session, if it is there."""
        async with self._database.writing() as session:
            ended = col(DashboardSessionRow.sha256) == token_digest
            await session.exec(delete(DashboardSessionRow).where(ended))
