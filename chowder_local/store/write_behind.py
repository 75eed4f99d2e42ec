"""Values that are known at once and written a moment later, so that no request waits for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic, TypeVar

from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.tasks import every

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sqlmodel.ext.asyncio.session import AsyncSession

    from chowder_local.store.database import Database

log = logging.getLogger(__name__)

WRITE_INTERVAL_S = 10.0

Key = TypeVar("Key")
Value = TypeVar("Value")


class WriteBehind(Generic[Key, Value]):
    """The latest values of some keys, as far as they are not written yet.

    A server that is killed forgets those of its last ten seconds. `save` writes some of them in a
    transaction; `what` names that in the log, as in "writing when keys were used".
    """

    def __init__(
        self,
        database: Database,
        what: str,
        save: Callable[[AsyncSession, Mapping[Key, Value]], Awaitable[None]],
    ) -> None:
        self._database = database
        self._what = what
        self._save = save
        self.pending: dict[Key, Value] = {}

    async def run(self) -> None:
        """Writes again and again, until cancelled; a server that nobody uses writes nothing."""
        await every(WRITE_INTERVAL_S, self._what, self.write)

    async def write(self) -> None:
        """Writes all that is pending, in one transaction; what fails is put off with a warning."""
        saving = dict(self.pending)
        if not saving:
            return
        try:
            # No `ReadCache` answers what is written here.
            async with self._database.writing(invalidates_caches=False) as session:
                await self._save(session, saving)
        except DataDirUnusable as problem:
            log.warning("%s put off: %s", self._what, problem)
            return
        # Kept until here, so that who reads in between finds it; a newer value stays.
        for key, value in saving.items():
            if self.pending.get(key) is value:
                del self.pending[key]
