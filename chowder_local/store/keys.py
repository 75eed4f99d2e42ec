"""API keys, and the dashboard sessions that begin with one."""

from __future__ import annotations

import hmac
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlmodel import col, delete, select, tuple_, update

from chowder_local.core.domain import ApiKey, InstanceId, KeyId, Permission
from chowder_local.store.database import ReadCache
from chowder_local.store.tables import (
    METADATA,
    ApiKeyRow,
    DashboardSessionRow,
    KeyGrantRow,
)
from chowder_local.store.write_behind import WriteBehind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement
    from sqlmodel.ext.asyncio.session import AsyncSession
    from sqlmodel.sql.expression import SelectOfScalar

    from chowder_local.core.domain import OrganizationId
    from chowder_local.store.database import Database

Grants = dict[InstanceId, frozenset[Permission]]

_TABLE = METADATA.tables["api_key"]


class KeyQueries:
    """API keys, found by the SHA-256 of the token and never holding it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read_cache = ReadCache[tuple[str, ApiKey]](database)
        self.uses = WriteBehind[KeyId, datetime](
            database, "writing when keys were used", _save_uses
        )
        """Run by who opens the store."""

    async def add(self, key: ApiKey, key_digest: str) -> None:
        """Keeps a key of an organization, and for instances, that are there."""
        async with self._database.writing() as session:
            session.add(row_of_key(key, key_digest))
            # The rows name each other by id only, so their order is ours to keep.
            await session.flush()
            session.add_all(_grant_rows(key))

    async def scoped(self, organization_id: OrganizationId) -> AsyncGenerator[list[ApiKey]]:
        """Its scoped keys, revoked and expired ones too, oldest first, without their grants.

        They come in pages; close the iterator to stop early.
        """
        found = _TABLE.select().where(*_scoped(organization_id))
        found = found.order_by(_TABLE.c.created_at, _TABLE.c.id)
        async with aclosing(self._database.pages(found)) as pages:
            async for rows in pages:
                yield [self._with_last_use(_key(fields)) for fields in rows]

    async def latest(
        self, organization_id: OrganizationId, *, limit: int, before: ApiKey | None = None
    ) -> list[ApiKey]:
        """The same with their grants, newest first: so many, or those made before one of them."""
        found = select(ApiKeyRow).where(*_scoped(organization_id))
        order = (col(ApiKeyRow.created_at), col(ApiKeyRow.id))
        if before is not None:
            found = found.where(tuple_(*order) < tuple_(before.created_at, before.id))
        found = found.order_by(*(each.desc() for each in order)).limit(limit)
        return [self._with_last_use(key) for _, key in await self._found(found)]

    async def get(self, key_id: KeyId) -> ApiKey | None:
        """The key, in whatever state."""
        found = await self._found(select(ApiKeyRow).where(ApiKeyRow.id == key_id))
        return self._with_last_use(found[0][1]) if found else None

    async def revoke(self, key_id: KeyId) -> None:
        """From its return on, this key authenticates nothing."""
        async with self._database.writing() as session:
            row = await session.get(ApiKeyRow, key_id)
            if row is not None:
                row.is_active = False

    async def remove_scoped(self, organization_id: OrganizationId) -> int:
        """Forgets all of its scoped keys, which then open nothing; how many there were."""
        theirs = _scoped(organization_id)
        async with self._database.writing() as session:
            ids = select(ApiKeyRow.id).where(*theirs)
            await session.exec(delete(KeyGrantRow).where(col(KeyGrantRow.key_id).in_(ids)))
            removed = await session.exec(delete(ApiKeyRow).where(*theirs))
            return removed.rowcount

    async def by_digest(self, key_digest: str) -> ApiKey | None:
        """The key whose token has this digest, whether it is still good or not."""

        async def read() -> tuple[str, ApiKey] | None:
            found = await self._found(select(ApiKeyRow).where(ApiKeyRow.sha256 == key_digest))
            return found[0] if found else None

        found = await self._read_cache.get(key_digest, read)
        if found is None:
            return None
        stored_digest, key = found
        # An index and a dict take longer for a longer common beginning, though whoever can steer
        # a digest can guess the token as well. What lets in is this, which takes the same for all.
        return key if hmac.compare_digest(stored_digest, key_digest) else None

    def note_use(self, key_id: KeyId, now: datetime) -> None:
        """A key has just authenticated a request."""
        self.uses.pending[key_id] = now

    def _with_last_use(self, key: ApiKey) -> ApiKey:
        return replace(key, last_used_at=self.uses.pending.get(key.id, key.last_used_at))

    async def _found(self, question: SelectOfScalar[ApiKeyRow]) -> list[tuple[str, ApiKey]]:
        """Keys with their grants, each after its digest."""
        async with self._database.reading() as session:
            rows = (await session.exec(question)).all()
            granted = await _grants(session, [row.id for row in rows])
        return [(row.sha256, _key(row.model_dump(), granted.get(row.id))) for row in rows]


def row_of_key(key: ApiKey, key_digest: str) -> ApiKeyRow:
    """The row that keeps a key."""
    return ApiKeyRow(**vars(key), sha256=key_digest)


async def _save_uses(session: AsyncSession, uses: Mapping[KeyId, datetime]) -> None:
    for key_id, used_at in uses.items():
        row = col(ApiKeyRow.id) == key_id
        await session.exec(update(ApiKeyRow).where(row).values(last_used_at=used_at))


def _scoped(organization_id: OrganizationId) -> tuple[ColumnElement[bool], ...]:
    is_theirs = col(ApiKeyRow.organization_id) == organization_id
    return is_theirs, col(ApiKeyRow.is_organization_key).is_(False)


def _grant_rows(key: ApiKey) -> Iterable[KeyGrantRow]:
    for instance_id, permissions in key.grants.items():
        yield KeyGrantRow(
            key_id=key.id,
            instance_id=instance_id,
            permissions=[each.value for each in Permission if each in permissions],
        )


async def _grants(session: AsyncSession, key_ids: Sequence[str]) -> dict[str, Grants]:
    """Those of each key that has any."""
    if not key_ids:
        return {}
    found = await session.exec(
        select(KeyGrantRow)
        .where(col(KeyGrantRow.key_id).in_(key_ids))
        .order_by(col(KeyGrantRow.key_id), col(KeyGrantRow.instance_id))
    )
    granted: dict[str, Grants] = {}
    for row in found:
        permissions = frozenset(map(Permission, row.permissions))
        granted.setdefault(row.key_id, {})[InstanceId(row.instance_id)] = permissions
    return granted


def _key(fields: dict[str, Any], grants: Grants | None = None) -> ApiKey:
    del fields["sha256"]
    return ApiKey(**fields, grants=grants or {})


class DashboardSessionQueries:
    """Sessions, found by the SHA-256 of the token in the browser's cookie."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, token_digest: str, key_id: KeyId, *, now: datetime, expires_at: datetime
    ) -> None:
        """Keeps a new session, and forgets those that have expired."""
        expired = col(DashboardSessionRow.expires_at) <= now
        async with self._database.writing() as session:
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
        ended = col(DashboardSessionRow.sha256) == token_digest
        async with self._database.writing() as session:
            await session.exec(delete(DashboardSessionRow).where(ended))
