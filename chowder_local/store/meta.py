"""The server's values about itself, such as its id, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.store.tables import MetaRow

if TYPE_CHECKING:
    from chowder_local.store.database import Database


@dataclass(eq=False, repr=False)
class MetaQueries:
    """Values by name."""

    database: Database

    async def get(self, name: str) -> str | None:
        async with self.database.reading() as session:
            row = await session.get(MetaRow, name)
            return None if row is None else row.value

    async def put_if_absent(self, name: str, value: str) -> str:
        """The existing value, or else the new one, which it stores."""
        async with self.database.writing() as session:
            row = await session.get(MetaRow, name)
            if row is not None:
                return row.value
            session.add(MetaRow(name=name, value=value))
            return value

    async def put(self, name: str, value: str) -> None:
        async with self.database.writing() as session:
            await session.merge(MetaRow(name=name, value=value))
