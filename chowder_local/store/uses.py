"""When each key was last used: known at once, written now and then."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlmodel import col, update

from chowder_local.errors.process import DataDirUnusable
from chowder_local.store.tables import ApiKeyRow

if TYPE_CHECKING:
    from datetime import datetime

    from chowder_local.domain import ApiKey, KeyId
    from chowder_local.store.database import Database

log = logging.getLogger(__name__)

WRITE_INTERVAL_S = 10.0


class KeyUses:
    """Collects what every request would otherwise write, and what every list has to tell.

    A server that is killed forgets the uses of its last ten seconds.
    """

    def __init__(self, database: Database, interval_s: float = WRITE_INTERVAL_S) -> None:
        self._database = database
        self._interval_s = interval_s
        self._unwritten: dict[KeyId, datetime] = {}

    def note(self, key_id: KeyId, now: datetime) -> None:
        """A key was used just now."""
        self._unwritten[key_id] = now

    def told(self, key: ApiKey) -> ApiKey:
        """The key as the store has it, with its true last use."""
        used_at = self._unwritten.get(key.id)
        return key if used_at is None else replace(key, last_used_at=used_at)

    async def run(self) -> None:
        """Writes again and again, until cancelled; a server that nobody uses writes nothing."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.write()

    async def write(self) -> None:
        """Writes all that is known, in one transaction; what fails is put off with a warning."""
        writing = dict(self._unwritten)
        if not writing:
            return
        try:
            async with self._database.writing() as session:
                for key_id, used_at in writing.items():
                    await session.exec(
                        update(ApiKeyRow)
                        .where(col(ApiKeyRow.id) == key_id)
                        .values(last_used_at=used_at)
                    )
        except DataDirUnusable as problem:
            log.warning("writing when keys were used put off: %s", problem)
            return
        # Kept until here, so that a list in between tells it; a newer use stays.
        for key_id, used_at in writing.items():
            if self._unwritten.get(key_id) == used_at:
                del self._unwritten[key_id]
