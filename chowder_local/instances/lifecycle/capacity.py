"""Memory for sandboxes: how many may be in it at once, and which go when it is full."""

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

    from chowder_local.core.domain import SandboxInfo
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.eviction import Eviction
    from chowder_local.instances.warm_pool.sandboxes import WarmSandboxes
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries

log = logging.getLogger(__name__)

WARM_SHARE = 4
"""One in so many sandboxes may be a warm one that waits for an instance."""

IN_MEMORY = {SandboxState.RUNNING, SandboxState.PAUSED}


class Capacity:
    """Counts the sandboxes in memory; stopped and warm ones make way for those that are needed."""

    def __init__(
        self,
        *,
        engine: Engine,
        instances: InstanceQueries,
        warm_sandboxes: WarmSandboxes,
        warm_queries: WarmSandboxQueries,
        eviction: Eviction,
        max_running: int | None,
    ) -> None:
        self._engine = engine
        self._instances = instances
        self._warm_sandboxes = warm_sandboxes
        self._warm_queries = warm_queries
        self._eviction = eviction
        self._max_running = max_running
        self._reserved: set[SandboxId] = set()
        self._deciding = asyncio.Lock()

    async def limit(self) -> int:
        """How many sandboxes can be in memory at once."""
        if self._max_running is not None:
            return self._max_running
        return max(1, places_in((await self._engine.memory()).total_bytes))

    @asynccontextmanager
    async def reserve(self, sandbox_id: SandboxId) -> AsyncIterator[None]:
        """Keeps memory for a sandbox that is booted in this block. Raises HostFull."""
        # One after the other, or two would take the last place.
        async with self._deciding:
            limit = await self.limit()
            while True:
                found = await self._engine.sandboxes()
                if len(self._in_memory(found) - {sandbox_id}) < limit:
                    break
                if not await self._make_room(found):
                    raise HostFull(limit)
            self._reserved.add(sandbox_id)
        try:
            yield
        finally:
            self._reserved.discard(sandbox_id)

    async def has_room_for_warm_sandbox(self, warm_count: int) -> bool:
        """Whether one more warm sandbox would leave enough for instances."""
        limit = await self.limit()
        if warm_count >= limit // WARM_SHARE:
            return False
        available = (await self._engine.memory()).available_bytes
        if available is not None and available < 2 * AGENT_MEMORY_BYTES:
            return False
        # Memory for one stays free, or a warm one would be made only to make way again.
        return len(self._in_memory(await self._engine.sandboxes())) + 1 < limit

    def _in_memory(self, found: dict[SandboxId, SandboxInfo]) -> set[SandboxId]:
        return self._reserved | {each.id for each in found.values() if each.state in IN_MEMORY}

    async def _make_room(self, found: dict[SandboxId, SandboxInfo]) -> bool:
        paused = [each.id for each in found.values() if each.state is SandboxState.PAUSED]
        owners = await self._instances.owners(paused)
        stopped = [each for each in owners if each.status is InstanceStatus.STOPPED]
        # The longest stopped first: it is the one that is missed last.
        for instance in sorted(stopped, key=lambda each: each.updated_at):
            with contained(f"sandbox {instance.sandbox_id}: making way"):
                if await self._eviction.release(instance):
                    return True
        for warm in await self._warm_queries.all():
            with contained(f"sandbox {warm.sandbox_id}: making way"):
                if warm.gateway_url is not None and await self._warm_sandboxes.discard(warm):
                    log.info("warm sandbox %s: made way", warm.sandbox_id)
                    return True
        return False
