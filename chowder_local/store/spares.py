"""What is asked and told about spares: blank sandboxes that wait for an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlmodel import col, delete, select

from chowder_local.core.domain import SandboxId, Spare
from chowder_local.core.events import Events, EventType
from chowder_local.store.tables import SpareRow

if TYPE_CHECKING:
    from chowder_local.store.database import Database


class SpareQueries:
    """Spares, those that are still being made included; `InstanceQueries.add` claims them."""

    def __init__(self, database: Database, events: Events | None = None) -> None:
        self._database = database
        self._events = events or Events()

    async def add(self, spare: Spare) -> None:
        """Keeps a spare that is about to be made."""
        async with self._database.writing() as session:
            session.add(SpareRow(**vars(spare)))

    async def all(self) -> list[Spare]:
        """Every spare, oldest first."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(SpareRow).order_by(col(SpareRow.created_at), col(SpareRow.sandbox_id))
            )
            return [_spare(row) for row in rows]

    async def has(self, sandbox_id: SandboxId) -> bool:
        """Whether a sandbox is one."""
        async with self._database.reading() as session:
            return await session.get(SpareRow, sandbox_id) is not None

    async def ready(self, sandbox_id: SandboxId, gateway_url: str) -> None:
        """From now on it may be claimed."""
        async with self._database.writing() as session:
            if (row := await session.get(SpareRow, sandbox_id)) is not None:
                row.gateway_url = gateway_url
        if row is not None:
            self._events.publish(EventType.SPARE_MADE, sandbox_id=sandbox_id)

    async def drop(self, sandbox_id: SandboxId) -> bool:
        """Forgets a spare; False if it is one no more, because an instance has claimed it."""
        async with self._database.writing() as session:
            dropped = await session.exec(
                delete(SpareRow).where(col(SpareRow.sandbox_id) == sandbox_id)
            )
        if dropped.rowcount > 0:
            self._events.publish(EventType.SPARE_DISCARDED, sandbox_id=sandbox_id)
        return dropped.rowcount > 0


def _spare(row: SpareRow) -> Spare:
    return Spare(SandboxId(row.sandbox_id), row.likeness, row.created_at, row.gateway_url)
