"""Keeps as many spares as wanted, where there is memory for them and nobody waits for a boot."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from chowder_local.core.errors import ChowderError
from chowder_local.core.tasks import contained

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from chowder_local.core.domain import SandboxId, WarmSandbox
    from chowder_local.instances.lifecycle.capacity import Capacity
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.warm_pool.sandboxes import Spares
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 5.0
LONGEST_PAUSE_S = 300.0
"""Between attempts to make a spare, once they have failed again and again."""


class Pool:
    """Replaces spares that were claimed, that died, or that are out of date."""

    def __init__(
        self,
        *,
        size: int,
        spares: Spares,
        queries: WarmSandboxQueries,
        provisioner: Provisioner,
        capacity: Capacity,
    ) -> None:
        self._size = size
        self._spares = spares
        self._queries = queries
        self._provisioner = provisioner
        self._capacity = capacity
        self._look = asyncio.Event()
        self._failures = 0
        self.problem: str | None = None
        """Why the last spare could not be made; None if it could."""

    @property
    def size(self) -> int:
        """How many spares are wanted."""
        return self._size

    @property
    def likeness(self) -> str | None:
        """Of which likeness a spare may be claimed; None if spares are not wanted."""
        return self._spares.likeness if self._size else None

    def offer(self) -> AbstractAsyncContextManager[SandboxId | None]:
        """The spare that boots just now, for who finds none ready; nobody's at the block's end."""
        return self._spares.offer()

    def claimed(self) -> None:
        """Tells that a spare is gone, so that another is made soon."""
        self._look.set()

    async def run(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            self._look.clear()
            with contained("looking after spares"):
                while await self.settle():
                    pass
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._look.wait()

    async def settle(self) -> bool:
        """One look; True if a spare was made, and there may be more to do."""
        fit = [spare for spare in await self._queries.all() if await self._kept(spare)]
        for surplus in fit[self._size :]:
            with _by_itself(surplus):
                await self._spares.discard(surplus)
        await self._spares.freeze_idle()
        if len(fit) >= self._size or self._provisioner.under_way_count:
            return False
        if not await self._capacity.has_place_for_spare(len(fit)):
            return False
        return await self._made()

    async def _kept(self, spare: WarmSandbox) -> bool:
        """Whether a spare is fit; one that is not is discarded."""
        # This is the only place that makes them: one without an address was left by a crash.
        with _by_itself(spare):
            if await self._spares.is_fit(spare):
                return True
            if await self._spares.discard(spare):
                log.info("spare %s: discarded", spare.sandbox_id)
        return False

    async def _made(self) -> bool:
        try:
            await self._spares.make()
        except ChowderError as failure:
            self._failures += 1
            if self.problem != str(failure):
                log.warning("a spare could not be made: %s", failure)
            self.problem = str(failure)
            return False
        self._failures, self.problem = 0, None
        return True

    def _pause_s(self) -> float:
        return min(LOOK_INTERVAL_S * 2.0 ** min(self._failures, 10), LONGEST_PAUSE_S)


def _by_itself(spare: WarmSandbox) -> AbstractContextManager[None]:
    """Lets one spare that cannot be dealt with stand in no other's way."""
    return contained(f"spare {spare.sandbox_id}: looking after it")
