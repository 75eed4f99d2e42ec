"""Queries on API keys, and on dashboard sessions, which begin with a key."""

from __future__ import annotations

import hmac
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlmodel import col, delete, select, tuple_, update

from chowder_local.core.domain import ApiKey, InstanceId, KeyId, Permission
from chowder_local.store.database import ReadCache
from chowder_local.store.instances import erase_deleted
from chowder_local.store.tables import (
    METADATA,
    ApiKeyRow,
    DashboardSessionRow,
    KeyGrantRow,
)
from chowder_local.store.usage import WriteBehind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement
    from sqlmodel.ext.asyncio.session import AsyncSession
    from sqlmodel.sql.expression import SelectOfScalar

    from chowder_local.core.domain import OrganizationId
    from chowder_local.store.database import Database

Grants = dict[InstanceId, frozenset[Permission]]

_TABLE = METADATA.tables["api_key"]


@dataclass(eq=False, repr=False)
class KeyQueries:
    """Queries on API keys, which are found by the SHA-256 of their token."""

    database: Database

    def __post_init__(self) -> None:
        self._read_cache = ReadCache[tuple[str, ApiKey]](self.database)
        self.uses = WriteBehind[KeyId, datetime](
            self.database, "writing when keys were used", _save_uses
        )
        """The opener of the store runs it."""

    async def add(self, key: ApiKey, key_digest: str) -> None:
        """Adds a key. Its organization and instances must exist."""
        async with self.database.writing() as session:
            session.add(row_of_key(key, key_digest))
            # Rows refer to each other by id only, so the code has to order the inserts.
            await session.flush()
            session.add_all(_grant_rows(key))
            await session.flush()
            await erase_deleted(session, key.grants, [KeyGrantRow])

    async def scoped(self, organization_id: OrganizationId) -> AsyncGenerator[list[ApiKey]]:
        """Its scoped keys in pages, oldest first, without grants; also revoked and expired ones.

        Close the iterator to stop early.
        """
        query = _TABLE.select().where(*_scoped(organization_id))
        query = query.order_by(_TABLE.c.created_at, _TABLE.c.id)
        async with aclosing(self.database.pages(query)) as pages:
            async for rows in pages:
                yield [self._with_last_use(_key(fields)) for fields in rows]

    async def latest(
        self, organization_id: OrganizationId, *, limit: int, before: ApiKey | None = None
    ) -> list[ApiKey]:
        """Its latest scoped keys with grants, newest first; with `before`, those made before it."""
        query = select(ApiKeyRow).where(*_scoped(organization_id))
        order = (col(ApiKeyRow.created_at), col(ApiKeyRow.id))
        if before is not None:
            query = query.where(tuple_(*order) < tuple_(before.created_at, before.id))
        query = query.order_by(*(each.desc() for each in order)).limit(limit)
        return [self._with_last_use(key) for _, key in await self._list(query)]

    async def get(self, key_id: KeyId) -> ApiKey | None:
        """The key in any state."""
        keys = await self._list(select(ApiKeyRow).where(ApiKeyRow.id == key_id))
        return self._with_last_use(keys[0][1]) if keys else None

    async def revoke(self, key_id: KeyId) -> None:
        """Revokes a key: it authenticates nothing after this returns."""
        async with self.database.writing() as session:
            row = await session.get(ApiKeyRow, key_id)
            if row is not None:
                row.is_active = False

    async def remove_scoped(self, organization_id: OrganizationId) -> int:
        """Deletes all scoped keys of an organization, and returns their number."""
        is_scoped = _scoped(organization_id)
        async with self.database.writing() as session:
            ids = select(ApiKeyRow.id).where(*is_scoped)
            await session.exec(delete(KeyGrantRow).where(col(KeyGrantRow.key_id).in_(ids)))
            result = await session.exec(delete(ApiKeyRow).where(*is_scoped))
            return result.rowcount

    async def by_digest(self, key_digest: str) -> ApiKey | None:
        """The key whose token has this digest, valid or not."""

        async def read() -> tuple[str, ApiKey] | None:
            keys = await self._list(select(ApiKeyRow).where(ApiKeyRow.sha256 == key_digest))
            return keys[0] if keys else None

        stored = await self._read_cache.get(key_digest, read)
        if stored is None:
            return None
        stored_digest, key = stored
        # Lookups in an index or a dict do not take constant time; this comparison does.
        return key if hmac.compare_digest(stored_digest, key_digest) else None

    def note_use(self, key_id: KeyId, now: datetime) -> None:
        """Notes that a key has authenticated a request."""
        self.uses.pending[key_id] = now

    def _with_last_use(self, key: ApiKey) -> ApiKey:
        return replace(key, last_used_at=self.uses.pending.get(key.id, key.last_used_at))

    async def _list(self, query: SelectOfScalar[ApiKeyRow]) -> list[tuple[str, ApiKey]]:
        """The digests and keys that a query finds, with grants."""
        async with self.database.reading() as session:
            rows = (await session.exec(query)).all()
            grants = await _grants(session, [row.id for row in rows])
        return [(row.sha256, _key(row.model_dump(), grants.get(row.id))) for row in rows]


def row_of_key(key: ApiKey, key_digest: str) -> ApiKeyRow:
    return ApiKeyRow(**vars(key), sha256=key_digest)


async def _save_uses(session: AsyncSession, uses: Mapping[KeyId, datetime]) -> None:
    for key_id, used_at in uses.items():
        row = col(ApiKeyRow.id) == key_id
        await session.exec(update(ApiKeyRow).where(row).values(last_used_at=used_at))


def _scoped(organization_id: OrganizationId) -> tuple[ColumnElement[bool], ...]:
    is_owned = col(ApiKeyRow.organization_id) == organization_id
    return is_owned, col(ApiKeyRow.is_organization_key).is_(False)


def _grant_rows(key: ApiKey) -> Iterable[KeyGrantRow]:
    for instance_id, permissions in key.grants.items():
        yield KeyGrantRow(
            key_id=key.id,
            instance_id=instance_id,
            permissions=[each.value for each in Permission if each in permissions],
        )


async def _grants(session: AsyncSession, key_ids: Sequence[str]) -> dict[str, Grants]:
    """Grants by key id; keys without grants are left out."""
    if not key_ids:
        return {}
    rows = await session.exec(
        select(KeyGrantRow)
        .where(col(KeyGrantRow.key_id).in_(key_ids))
        .order_by(col(KeyGrantRow.key_id), col(KeyGrantRow.instance_id))
    )
    grants: dict[str, Grants] = {}
    for row in rows:
        permissions = frozenset(map(Permission, row.permissions))
        grants.setdefault(row.key_id, {})[InstanceId(row.instance_id)] = permissions
    return grants


def _key(fields: dict[str, Any], grants: Grants | None = None) -> ApiKey:
    del fields["sha256"]
    return ApiKey(**fields, grants=grants or {})


@dataclass(eq=False, repr=False)
class DashboardSessionQueries:
    """Queries on sessions, which are found by the SHA-256 of the cookie's token."""

    database: Database

    async def add(
        self, token_digest: str, key_id: KeyId, *, now: datetime, expires_at: datetime
    ) -> None:
        """Adds a session, and deletes expired ones."""
        is_expired = col(DashboardSessionRow.expires_at) <= now
        async with self.database.writing() as session:
            await session.exec(delete(DashboardSessionRow).where(is_expired))
            row = DashboardSessionRow(sha256=token_digest, key_id=key_id, expires_at=expires_at)
            session.add(row)

    async def key_id(self, token_digest: str, now: datetime) -> KeyId | None:
        """The key of a session; None if the session does not exist or has expired."""
        async with self.database.reading() as session:
            row = await session.get(DashboardSessionRow, token_digest)
            return None if row is None or row.expires_at <= now else KeyId(row.key_id)

    async def remove(self, token_digest: str) -> None:
        """Deletes a session, if it exists."""
        has_digest = col(DashboardSessionRow.sha256) == token_digest
        async with self.database.writing() as session:
            await session.exec(delete(DashboardSessionRow).where(has_digest))
