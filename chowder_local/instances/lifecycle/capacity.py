"""Room for sandboxes: how many the machine has memory for, and who goes when there is none."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chowder_local.core.domain import (
    AGENT_MEMORY_BYTES,
    InstanceStatus,
    SandboxId,
    SandboxState,
    places_in,
)
from chowder_local.core.errors.sandboxes import HostFull
from chowder_local.core.tasks import contained

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager

    from chowder_local.core.domain import SandboxInfo
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.eviction import Eviction
    from chowder_local.instances.warm_pool.sandboxes import Spares
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries

log = logging.getLogger(__name__)

SPARES_SHARE = 4
"""Of all places, one in so many may be a spare's."""

_IN_MEMORY = {SandboxState.RUNNING, SandboxState.PAUSED}


class Capacity:
    """Counts the sandboxes that are in memory; stopped ones and spares make way for others."""

    def __init__(
        self,
        *,
        engine: Engine,
        instances: InstanceQueries,
        spares: Spares,
        spare_queries: WarmSandboxQueries,
        eviction: Eviction,
        max_running: int | None,
    ) -> None:
        self._engine = engine
        self._instances = instances
        self._spares = spares
        self._spare_queries = spare_queries
        self._eviction = eviction
        self._max_running = max_running
        self._kept: set[SandboxId] = set()
        self._deciding = asyncio.Lock()

    async def places(self) -> int:
        """How many sandboxes can be in memory at once."""
        if self._max_running is not None:
            return self._max_running
        return max(1, places_in((await self._engine.memory()).total_bytes))

    @asynccontextmanager
    async def kept_for(self, sandbox_id: SandboxId) -> AsyncIterator[None]:
        """A place for a sandbox that is about to be booted. Raises HostFull."""
        # One after the other, or two would take the last place.
        async with self._deciding:
            places = await self.places()
            while True:
                found = await self._engine.sandboxes()
                if len(self._taken(found) - {sandbox_id}) < places:
                    break
                if not await self._make_room(found):
                    raise HostFull(places)
            self._kept.add(sandbox_id)
        try:
            yield
        finally:
            self._kept.discard(sandbox_id)

    async def has_place_for_spare(self, spare_count: int) -> bool:
        """Whether one more spare would leave enough for what people ask for."""
        places = await self.places()
        if spare_count >= places // SPARES_SHARE:
            return False
        available = (await self._engine.memory()).available_bytes
        if available is not None and available < 2 * AGENT_MEMORY_BYTES:
            return False
        # One place stays free, so that a spare is not made only to make way again.
        return len(self._taken(await self._engine.sandboxes())) + 1 < places

    def _taken(self, found: dict[SandboxId, SandboxInfo]) -> set[SandboxId]:
        return self._kept | {each.id for each in found.values() if each.state in _IN_MEMORY}

    async def _make_room(self, found: dict[SandboxId, SandboxInfo]) -> bool:
        paused = [each.id for each in found.values() if each.state is SandboxState.PAUSED]
        owners = await self._instances.owners(paused)
        stopped = [each for each in owners if each.status is InstanceStatus.STOPPED]
        # The longest stopped first: it is the one that is missed last.
        for instance in sorted(stopped, key=lambda each: each.updated_at):
            with _by_itself(instance.sandbox_id):
                if await self._eviction.release(instance):
                    return True
        for spare in await self._spare_queries.all():
            with _by_itself(spare.sandbox_id):
                if spare.gateway_url is not None and await self._spares.discard(spare):
                    log.info("spare %s: made way", spare.sandbox_id)
                    return True
        return False


def _by_itself(sandbox_id: SandboxId) -> AbstractContextManager[None]:
    """Lets one that cannot make way leave it to the next."""
    return contained(f"sandbox {sandbox_id}: making way")
