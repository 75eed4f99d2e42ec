"""A write-behind buffer: values are written a moment later, so that no request waits for disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass
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


@dataclass(eq=False, repr=False)
class WriteBehind(Generic[Key, Value]):
    """The latest values by key that are not written yet.

    A server that is killed loses the values of its last ten seconds. `save` writes values in a
    transaction; `what` names that work in the log, as in "writing when keys were used".
    """

    database: Database
    what: str
    save: Callable[[AsyncSession, Mapping[Key, Value]], Awaitable[None]]

    def __post_init__(self) -> None:
        self.pending: dict[Key, Value] = {}

    async def run(self) -> None:
        """Writes pending values every ten seconds, until cancelled."""
        await every(WRITE_INTERVAL_S, self.what, self.write)

    async def write(self) -> None:
        """Writes all pending values in one transaction. Logs a failure, and keeps the values."""
        if not self.pending:
            return
        try:
            # No `ReadCache` holds these values.
            async with self.database.writing(invalidates_caches=False) as session:
                # Not before: another task may have written the same while this one waited.
                if saving := dict(self.pending):
                    await self.save(session, saving)
        except DataDirUnusable as error:
            log.warning("%s postponed: %s", self.what, error)
            return
        # Removed only now, so that readers always find the values; a newer value stays.
        for key, value in saving.items():
            if self.pending.get(key) is value:
                del self.pending[key]
