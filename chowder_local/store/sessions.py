"""Sessions: their names by OpenClaw's session keys."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING

from cachetools import LRUCache
from sqlalchemy import func
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col, delete, select, update

from chowder_local.core.domain import InstanceId
from chowder_local.store.database import in_pages
from chowder_local.store.instances import erase_deleted
from chowder_local.store.tables import SessionRow
from chowder_local.store.usage import WriteBehind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlmodel.ext.asyncio.session import AsyncSession

    from chowder_local.store.database import Database

CAPACITY = 10_000

Identity = tuple[InstanceId, str]


@dataclass(frozen=True)
class NamedSession:
    """A named session of an instance."""

    instance_id: InstanceId
    name: str
    session_key: str
    created_at: datetime
    last_used_at: datetime

    @property
    def identity(self) -> Identity:
        return self.instance_id, self.session_key


class SessionQueries:
    """The named sessions of instances."""

    def __init__(self, database: Database, capacity: int = CAPACITY) -> None:
        self._database = database
        # A session that the cache drops is written once more, which is harmless.
        self._names = LRUCache[Identity, str](capacity)
        self._new: dict[Identity, NamedSession] = {}
        self._new_lock = asyncio.Lock()
        self.uses = WriteBehind[Identity, datetime](
            database, "writing when sessions were used", _save_uses
        )
        """The opener of the store runs it."""

    async def remember(
        self, instance_id: InstanceId, name: str, session_key: str, now: datetime
    ) -> None:
        """Stores the use of a session. The name of a new one is on disk when this returns."""
        new = NamedSession(instance_id, name, session_key, now, now)
        if self._names.get(new.identity) == name:
            # Every message runs this code, and must not wait for the disk.
            self.uses.pending[new.identity] = now
            return
        self._new[new.identity] = new
        try:
            async with self._new_lock:
                if self._new.get(new.identity) is new:
                    await self._write(list(self._new.values()))
        finally:
            if self._new.get(new.identity) is new:
                del self._new[new.identity]

    async def _write(self, sessions: list[NamedSession]) -> None:
        """Writes all new sessions, so that calls during one write share the next."""
        async with self._database.writing(invalidates_caches=False) as session:
            await session.exec(_UPSERT, params=[{**vars(each)} for each in sessions])
            await erase_deleted(session, {each.instance_id for each in sessions}, [SessionRow])
        for each in sessions:
            self._names[each.identity] = each.name
            if self._new.get(each.identity) is each:
                del self._new[each.identity]

    def name_of(self, instance_id: InstanceId, session_key: str) -> str | None:
        """The name of a recently used session, from memory."""
        return self._names.get((instance_id, session_key))

    async def remove(self, instance_id: InstanceId, session_key: str) -> None:
        """Removes a name; its next use stores it again."""
        self._names.pop((instance_id, session_key), None)
        self.uses.pending.pop((instance_id, session_key), None)
        async with self._database.writing(invalidates_caches=False) as session:
            await session.exec(
                delete(SessionRow).where(
                    col(SessionRow.instance_id) == instance_id,
                    col(SessionRow.session_key) == session_key,
                )
            )

    async def replace(self, instance_id: InstanceId, sessions: list[NamedSession]) -> None:
        """Replaces the sessions of an instance; of two with the same key, one is stored."""
        async with self._database.writing(invalidates_caches=False) as session:
            await session.exec(delete(SessionRow).where(col(SessionRow.instance_id) == instance_id))
            for page in in_pages(sessions):
                await session.exec(_UPSERT, params=[{**vars(each)} for each in page])
        for identity in [each for each in self._names if each[0] == instance_id]:
            del self._names[identity]

    async def of_instance(self, instance_id: InstanceId) -> list[NamedSession]:
        """The named sessions of an instance, last used first."""
        query = select(*_COLUMNS).where(SessionRow.instance_id == instance_id)
        uses = self.uses.pending
        sessions: list[NamedSession] = []
        async for page in self._database.pages(query.order_by(col(SessionRow.session_key))):
            for row in page:
                named = NamedSession(**row)
                used_at = uses.get(named.identity)
                sessions.append(named if used_at is None else replace(named, last_used_at=used_at))
        return sorted(sessions, key=lambda each: each.last_used_at, reverse=True)


_COLUMNS = [getattr(SessionRow, each.name) for each in fields(NamedSession)]
_INSERT = insert(SessionRow)
_UPSERT = _INSERT.on_conflict_do_update(
    index_elements=["instance_id", "session_key"],
    set_={
        "name": _INSERT.excluded.name,
        # The clock may have been set back since the last use.
        "last_used_at": func.max(col(SessionRow.last_used_at), _INSERT.excluded.last_used_at),
    },
)


async def _save_uses(session: AsyncSession, uses: Mapping[Identity, datetime]) -> None:
    for (instance_id, session_key), used_at in uses.items():
        row = (
            col(SessionRow.instance_id) == instance_id,
            col(SessionRow.session_key) == session_key,
        )
        await session.exec(update(SessionRow).where(*row).values(last_used_at=used_at))
