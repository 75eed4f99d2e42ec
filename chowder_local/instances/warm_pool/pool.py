"""Keeps as many warm sandboxes as wanted, where there is memory and no instance waits to boot."""

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
    from chowder_local.instances.warm_pool.sandboxes import WarmSandboxes
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 5.0
LONGEST_PAUSE_S = 300.0
"""Between attempts to make one, once they have failed again and again."""


class WarmPool:
    """Replaces warm sandboxes that were claimed, that died, or that are out of date."""

    def __init__(
        self,
        *,
        size: int,
        warm_sandboxes: WarmSandboxes,
        queries: WarmSandboxQueries,
        provisioner: Provisioner,
        capacity: Capacity,
    ) -> None:
        self._size = size
        self._warm_sandboxes = warm_sandboxes
        self._queries = queries
        self._provisioner = provisioner
        self._capacity = capacity
        self._look = asyncio.Event()
        self._failures = 0
        self.problem: str | None = None
        """Why the last one could not be made; None if it could."""

    @property
    def size(self) -> int:
        """How many are wanted."""
        return self._size

    @property
    def fingerprint(self) -> str | None:
        """What a warm sandbox that may be claimed must be like; None if none are wanted."""
        return self._warm_sandboxes.fingerprint if self._size else None

    def reserve_booting(self) -> AbstractAsyncContextManager[SandboxId | None]:
        """The one that boots just now, for an instance that finds none ready."""
        return self._warm_sandboxes.reserve_booting()

    def refill(self) -> None:
        """Makes another soon, because one was claimed."""
        self._look.set()

    async def run(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            self._look.clear()
            with contained("looking after warm sandboxes"):
                while await self.adjust():
                    pass
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._look.wait()

    async def adjust(self) -> bool:
        """One look; True if one was made, and there may be more to do."""
        fit = [each for each in await self._queries.all() if await self._is_kept(each)]
        for surplus in fit[self._size :]:
            with _by_itself(surplus):
                await self._warm_sandboxes.discard(surplus)
        await self._warm_sandboxes.freeze_idle()
        if len(fit) >= self._size or self._provisioner.in_progress_count:
            return False
        if not await self._capacity.has_room_for_warm_sandbox(len(fit)):
            return False
        return await self._make()

    async def _is_kept(self, warm: WarmSandbox) -> bool:
        """Whether it is fit; one that is not is discarded."""
        # This is the only place that makes them: one without an address was left by a crash.
        with _by_itself(warm):
            if await self._warm_sandboxes.is_fit(warm):
                return True
            if await self._warm_sandboxes.discard(warm):
                log.info("warm sandbox %s: discarded", warm.sandbox_id)
        return False

    async def _make(self) -> bool:
        try:
            await self._warm_sandboxes.make()
        except ChowderError as failure:
            self._failures += 1
            if self.problem != str(failure):
                log.warning("a warm sandbox could not be made: %s", failure)
            self.problem = str(failure)
            return False
        self._failures, self.problem = 0, None
        return True

    def _pause_s(self) -> float:
        return min(LOOK_INTERVAL_S * 2.0 ** min(self._failures, 10), LONGEST_PAUSE_S)


def _by_itself(warm: WarmSandbox) -> AbstractContextManager[None]:
    """Lets one that cannot be dealt with stand in no other's way."""
    return contained(f"warm sandbox {warm.sandbox_id}: looking after it")
