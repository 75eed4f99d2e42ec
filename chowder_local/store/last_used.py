"""When each key and each conversation was last used: known at once, written now and then."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Generic, TypeVar

from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.tasks import contained

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from datetime import datetime

    from sqlalchemy import Update

    from chowder_local.store.database import Database

log = logging.getLogger(__name__)

WRITE_INTERVAL_S = 10.0

Used = TypeVar("Used", bound="Hashable")
Kept = TypeVar("Kept", bound="datetime | None")


class LastUsed(Generic[Used]):
    """Collects what every request would otherwise write, and what every list has to tell.

    A server that is killed forgets the uses of its last ten seconds. `written` is the statement
    that keeps one use.
    """

    def __init__(
        self,
        database: Database,
        what: str,
        written: Callable[[Used, datetime], Update],
        interval_s: float = WRITE_INTERVAL_S,
    ) -> None:
        self._database = database
        self._what = what
        self._written = written
        self._interval_s = interval_s
        self._unwritten: dict[Used, datetime] = {}

    def note(self, used: Used, now: datetime) -> None:
        """It was used just now."""
        self._unwritten[used] = now

    def told(self, used: Used, kept: Kept) -> datetime | Kept:
        """Its true last use, of which the store has `kept`."""
        return self._unwritten.get(used, kept)

    async def run(self) -> None:
        """Writes again and again, until cancelled; a server that nobody uses writes nothing."""
        while True:
            await asyncio.sleep(self._interval_s)
            with contained(f"writing when {self._what} were used"):
                await self.write()

    async def write(self) -> None:
        """Writes all that is known, in one transaction; what fails is put off with a warning."""
        writing = dict(self._unwritten)
        if not writing:
            return
        try:
            # What is recalled does not tell when it was used, and stays as it is.
            async with self._database.writing(is_recalled=False) as session:
                for used, used_at in writing.items():
                    await session.exec(self._written(used, used_at))
        except DataDirUnusable as problem:
            log.warning("writing when %s were used put off: %s", self._what, problem)
            return
        # Kept until here, so that a list in between tells it; a newer use stays.
        for used, used_at in writing.items():
            if self._unwritten.get(used) == used_at:
                del self._unwritten[used]
