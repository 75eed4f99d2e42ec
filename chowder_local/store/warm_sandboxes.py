"""Queries on warm sandboxes."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from sqlmodel import col, delete, select

from chowder_local.core.domain import SandboxId, WarmSandbox
from chowder_local.core.events import Events, EventType
from chowder_local.store.tables import WarmSandboxRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator
    from contextlib import AbstractContextManager

    from sqlmodel.ext.asyncio.session import AsyncSession

    from chowder_local.core.domain import Instance
    from chowder_local.store.database import Database


class WarmSandboxQueries:
    """Queries on warm sandboxes, ready or not; `InstanceQueries` claims them."""

    def __init__(self, database: Database, events: Events | None = None) -> None:
        self._database = database
        self._events = events or Events()
        self._reserved: set[SandboxId] = set()
        self._warming: set[SandboxId] = set()

    def holding(self, sandbox_id: SandboxId) -> AbstractContextManager[None]:
        """Keeps a sandbox in `ids` during the block, while its owner changes."""
        return _being_in(self._reserved, sandbox_id)

    def warming(self, sandbox_id: SandboxId) -> AbstractContextManager[None]:
        """Marks a sandbox whose turns in the block are no instance's, even if one claims it."""
        return _being_in(self._warming, sandbox_id)

    def is_warming(self, sandbox_id: SandboxId) -> bool:
        """Whether its turns are those of a warm-up."""
        return sandbox_id in self._warming

    async def add(self, sandbox: WarmSandbox) -> None:
        """Adds a warm sandbox before it is made."""
        async with self._database.writing() as session:
            session.add(WarmSandboxRow(**vars(sandbox)))

    async def all(self) -> list[WarmSandbox]:
        """All warm sandboxes, oldest first."""
        oldest_first = (col(WarmSandboxRow.created_at), col(WarmSandboxRow.sandbox_id))
        async with self._database.reading() as session:
            rows = await session.exec(select(WarmSandboxRow).order_by(*oldest_first))
            return [WarmSandbox(**row.model_dump()) for row in rows]

    async def ids(self) -> set[SandboxId]:
        """The warm sandboxes, including those that are reserved."""
        ids = {each.sandbox_id for each in await self.all()}
        # The reservations are read after the rows: a row is deleted after its sandbox was reserved.
        return ids | self._reserved

    @asynccontextmanager
    async def reserve(
        self, instance: Instance, fingerprint: str | None, booting: Collection[SandboxId]
    ) -> AsyncIterator[WarmSandbox | None]:
        """Claims a sandbox of the fingerprint before the instance's row names it: as `claim`.

        `ids` contains it until the end of the block; the instance owns it then, or nobody does.
        """
        reserved: WarmSandbox | None = None
        try:
            async with self._database.writing() as session:
                if (reserved := await claim(session, instance, fingerprint, booting)) is not None:
                    self._reserved.add(reserved.sandbox_id)
            if reserved is not None:
                self._events.publish(
                    EventType.WARM_SANDBOX_CLAIMED,
                    instance.organization_id,
                    instance.id,
                    sandbox_id=reserved.sandbox_id,
                )
            yield reserved
        finally:
            if reserved is not None:
                self._reserved.discard(reserved.sandbox_id)

    async def has(self, sandbox_id: SandboxId) -> bool:
        """Whether a sandbox is a warm one."""
        async with self._database.reading() as session:
            return await session.get(WarmSandboxRow, sandbox_id) is not None

    async def ready(self, sandbox_id: SandboxId, gateway_url: str) -> None:
        """Marks a warm sandbox as ready to be claimed."""
        async with self._database.writing() as session:
            if (row := await session.get(WarmSandboxRow, sandbox_id)) is not None:
                row.gateway_url = gateway_url
        if row is not None:
            self._events.publish(EventType.WARM_SANDBOX_MADE, sandbox_id=sandbox_id)

    async def drop(self, sandbox_id: SandboxId) -> bool:
        """Deletes a warm sandbox; False if an instance has claimed it."""
        dropped = delete(WarmSandboxRow).where(col(WarmSandboxRow.sandbox_id) == sandbox_id)
        async with self._database.writing() as session:
            is_dropped = (await session.exec(dropped)).rowcount > 0
        if is_dropped:
            self._events.publish(EventType.WARM_SANDBOX_DISCARDED, sandbox_id=sandbox_id)
        return is_dropped


async def claim(
    session: AsyncSession,
    instance: Instance,
    fingerprint: str | None,
    booting: Collection[SandboxId],
) -> WarmSandbox | None:
    """Claims the oldest ready sandbox of the fingerprint, or else the oldest one that is `booting`.

    Those that only the instance's organization may have are preferred. None if none has the
    fingerprint, or if that is None.
    """
    is_ready = col(WarmSandboxRow.gateway_url).is_not(None)
    owner = col(WarmSandboxRow.organization_id)
    fitting = (
        select(WarmSandboxRow)
        .where(
            WarmSandboxRow.fingerprint == fingerprint,
            is_ready | col(WarmSandboxRow.sandbox_id).in_(booting),
            owner.is_(None) | (owner == instance.organization_id),
        )
        .order_by(
            is_ready.desc(),
            owner.is_(None),
            col(WarmSandboxRow.created_at),
            col(WarmSandboxRow.sandbox_id),
        )
        .limit(1)
    )
    if fingerprint is None or (row := (await session.exec(fitting)).one_or_none()) is None:
        return None
    await session.delete(row)
    return WarmSandbox(**row.model_dump())


@contextmanager
def _being_in(ids: set[SandboxId], sandbox_id: SandboxId) -> Iterator[None]:
    ids.add(sandbox_id)
    try:
        yield
    finally:
        ids.discard(sandbox_id)
