"""When agents have to be in memory for their next scheduled job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlmodel import select

from chowder_local.core.domain import InstanceId
from chowder_local.store.tables import DueJobRow

if TYPE_CHECKING:
    from datetime import datetime

    from chowder_local.store.database import Database


class DueJobQueries:
    """The next due time of each agent that has jobs, on the agent's own clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> dict[InstanceId, datetime]:
        async with self._database.reading() as session:
            rows = await session.exec(select(DueJobRow))
            return {InstanceId(each.instance_id): each.at for each in rows}

    async def put(self, instance_id: InstanceId, at: datetime | None) -> None:
        """Stores the next due time; None if there is none."""
        async with self._database.writing() as session:
            if at is not None:
                await session.merge(DueJobRow(instance_id=instance_id, at=at))
            elif (row := await session.get(DueJobRow, instance_id)) is not None:
                await session.delete(row)
