"""What is asked and told about API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlmodel import select

from chowder_local.domain import ApiKey, KeyId, OrganizationId
from chowder_local.store.recall import Recall
from chowder_local.store.tables import ApiKeyRow

if TYPE_CHECKING:
    from chowder_local.store.database import Database


class KeyQueries:
    """API keys, found by the SHA-256 of the token and never holding it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recall = Recall[ApiKey](database)

    async def add(self, key: ApiKey, key_digest: str) -> None:
        """Keeps a key of an organization that is there."""
        async with self._database.writing() as session:
            session.add(row_of_key(key, key_digest))

    async def by_digest(self, key_digest: str) -> ApiKey | None:
        """The key whose token has this digest, whether it is still good or not."""
        return await self._recall.of(key_digest, lambda: self._by_digest(key_digest))

    async def _by_digest(self, key_digest: str) -> ApiKey | None:
        async with self._database.reading() as session:
            found = await session.exec(select(ApiKeyRow).where(ApiKeyRow.sha256 == key_digest))
            row = found.one_or_none()
            return None if row is None else _key(row)


def row_of_key(key: ApiKey, key_digest: str) -> ApiKeyRow:
    """The row that keeps a key."""
    return ApiKeyRow(
        id=key.id,
        organization_id=key.organization_id,
        name=key.name,
        prefix=key.prefix,
        sha256=key_digest,
        is_active=key.is_active,
        is_organization_key=key.is_organization_key,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
    )


def _key(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        id=KeyId(row.id),
        organization_id=OrganizationId(row.organization_id),
        name=row.name,
        prefix=row.prefix,
        created_at=row.created_at,
        is_active=row.is_active,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        is_organization_key=row.is_organization_key,
    )
