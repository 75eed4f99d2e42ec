"""Conversations: their readable names, beside OpenClaw's keys."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from cachetools import LRUCache
from sqlalchemy import func
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col, delete, select, update

from chowder_local.core.domain import InstanceId
from chowder_local.store.tables import SessionRow
from chowder_local.store.write_behind import WriteBehind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlmodel.ext.asyncio.session import AsyncSession

    from chowder_local.store.database import Database

CAPACITY = 10_000

Identity = tuple[InstanceId, str]


@dataclass(frozen=True)
class RememberedSession:
    """A named conversation of an instance."""

    instance_id: InstanceId
    name: str
    session_key: str
    created_at: datetime
    last_used_at: datetime

    @property
    def identity(self) -> Identity:
        """What no two of them share."""
        return self.instance_id, self.session_key


class SessionQueries:
    """The conversations that were used, by instance."""

    def __init__(self, database: Database, capacity: int = CAPACITY) -> None:
        self._database = database
        # One that falls out is merely written once more.
        self._names = LRUCache[Identity, str](capacity)
        self._new: dict[Identity, RememberedSession] = {}
        self._new_lock = asyncio.Lock()
        self.uses = WriteBehind[Identity, datetime](
            database, "writing when conversations were used", _save_uses
        )
        """Run by who opens the store."""

    async def remember(
        self, instance_id: InstanceId, name: str, session_key: str, now: datetime
    ) -> None:
        """Keeps that a conversation is used; of a new one the name is safe when this returns."""
        used = RememberedSession(instance_id, name, session_key, now, now)
        if self._names.get(used.identity) == name:
            # Every message comes by here, and a write would make it wait for the disk.
            self.uses.pending[used.identity] = now
            return
        self._new[used.identity] = used
        try:
            async with self._new_lock:
                if self._new.get(used.identity) is used:
                    await self._write(list(self._new.values()))
        finally:
            if self._new.get(used.identity) is used:
                del self._new[used.identity]

    async def _write(self, opened: list[RememberedSession]) -> None:
        """Writes what waits, so that those who came during one write share the next."""
        async with self._database.writing(invalidates_caches=False) as session:
            await session.exec(_KEPT, params=[asdict(each) for each in opened])
        for each in opened:
            self._names[each.identity] = each.name
            if self._new.get(each.identity) is each:
                del self._new[each.identity]

    def name_of(self, instance_id: InstanceId, session_key: str) -> str | None:
        """What a conversation is called that was used lately; without asking the database."""
        return self._names.get((instance_id, session_key))

    async def replace(self, instance_id: InstanceId, wanted: list[RememberedSession]) -> None:
        """Lets an instance have these and no others; what has the same key twice is one."""
        async with self._database.writing(invalidates_caches=False) as session:
            await session.exec(delete(SessionRow).where(col(SessionRow.instance_id) == instance_id))
            if wanted:
                await session.exec(_KEPT, params=[asdict(each) for each in wanted])
        for identity in [each for each in self._names if each[0] == instance_id]:
            del self._names[identity]

    async def of_instance(self, instance_id: InstanceId) -> list[RememberedSession]:
        """An instance's named conversations, last used first."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(SessionRow)
                .where(SessionRow.instance_id == instance_id)
                .order_by(col(SessionRow.session_key))
            )
            kept = [RememberedSession(**row.model_dump()) for row in rows]
        latest = self.uses.pending
        kept = [
            replace(each, last_used_at=latest.get(each.identity, each.last_used_at))
            for each in kept
        ]
        return sorted(kept, key=lambda each: each.last_used_at, reverse=True)


_NEW = insert(SessionRow)
_KEPT = _NEW.on_conflict_do_update(
    index_elements=["instance_id", "session_key"],
    set_={
        "name": _NEW.excluded.name,
        # The clock may have been set back since.
        "last_used_at": func.max(col(SessionRow.last_used_at), _NEW.excluded.last_used_at),
    },
)


async def _save_uses(session: AsyncSession, uses: Mapping[Identity, datetime]) -> None:
    for (instance_id, session_key), used_at in uses.items():
        row = (
            col(SessionRow.instance_id) == instance_id,
            col(SessionRow.session_key) == session_key,
        )
        await session.exec(update(SessionRow).where(*row).values(last_used_at=used_at))
