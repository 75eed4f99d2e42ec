"""What is asked and told about conversations: their readable names, beside OpenClaw's keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlmodel import col, select

from chowder_local.domain import InstanceId
from chowder_local.store.tables import SessionRow

if TYPE_CHECKING:
    from datetime import datetime

    from chowder_local.store.database import Database

_RESOLUTION = timedelta(minutes=1)


@dataclass(frozen=True)
class RememberedSession:
    """A named conversation of an instance."""

    instance_id: InstanceId
    name: str
    session_key: str
    created_at: datetime
    last_used_at: datetime


class SessionQueries:
    """The conversations that were used, by instance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(
        self, instance_id: InstanceId, name: str, session_key: str, now: datetime
    ) -> None:
        """Keeps that a conversation is used, exact to a minute."""
        identity = (instance_id, session_key)
        async with self._database.reading() as session:
            row = await session.get(SessionRow, identity)
        # Every message comes by here, and a write makes it wait for the disk.
        if row is not None and row.name == name and now - row.last_used_at < _RESOLUTION:
            return
        async with self._database.writing() as session:
            row = await session.get(SessionRow, identity)
            if row is None:
                row = SessionRow(
                    instance_id=instance_id,
                    session_key=session_key,
                    name=name,
                    created_at=now,
                    last_used_at=now,
                )
            row.name = name
            row.last_used_at = max(now, row.last_used_at)
            session.add(row)

    async def of_instance(self, instance_id: InstanceId) -> list[RememberedSession]:
        """An instance's named conversations, last used first."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(SessionRow)
                .where(SessionRow.instance_id == instance_id)
                .order_by(col(SessionRow.last_used_at).desc(), col(SessionRow.session_key))
            )
            return [
                RememberedSession(
                    instance_id=InstanceId(row.instance_id),
                    name=row.name,
                    session_key=row.session_key,
                    created_at=row.created_at,
                    last_used_at=row.last_used_at,
                )
                for row in rows
            ]
