"""Memory for sandboxes: how many fit at once, and which are evicted when it is full."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import (
    AGENT_MEMORY_BYTES,
    InstanceStatus,
    SandboxId,
    SandboxState,
    agent_capacity,
)
from chowder_local.core.errors.sandboxes import HostFull
from chowder_local.core.tasks import logging_errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.core.domain import EngineNode, SandboxInfo
    from chowder_local.instances.lifecycle.agents import Agents
    from chowder_local.instances.lifecycle.residency import Hibernation
    from chowder_local.instances.warm_pool.sandboxes import WarmSandboxes
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries

log = logging.getLogger(__name__)

WARM_SHARE = 4
"""At most one sandbox in so many is a warm one that waits for an instance."""

IDLE_FOR_WARM_S = 60.0
"""How long an instance has to be idle before it makes room for a warm sandbox."""

IN_MEMORY = {SandboxState.RUNNING, SandboxState.PAUSED}


@dataclass(eq=False, repr=False, kw_only=True)
class Capacity:
    """Counts the sandboxes in memory; evicts stopped, warm and idle ones for others."""

    warm_sandboxes: WarmSandboxes
    warm_queries: WarmSandboxQueries
    agents: Agents
    hibernation: Hibernation
    max_sandboxes: int | None

    def __post_init__(self) -> None:
        self._reserved: set[SandboxId] = set()
        self._deciding = asyncio.Lock()

    async def limit(self) -> int:
        """The number of sandboxes that fit in memory at once."""
        if self.max_sandboxes is not None:
            return self.max_sandboxes
        return max(1, agent_capacity((await self.agents.engine.memory()).total_bytes))

    @asynccontextmanager
    async def reserve(self, sandbox_id: SandboxId) -> AsyncIterator[None]:
        """Reserves memory for a boot in this block. Raises HostFull if nothing can be evicted."""
        # Boots decide one at a time, because two of them would both take the last place.
        async with self._deciding:
            await self._make_room(sandbox_id, await self.limit())
            if (node := self._node_of(sandbox_id)) is not None:
                # The agent's files are on this node, so it cannot boot on another one that has
                # room.
                await self._make_room(sandbox_id, agent_capacity(node.memory_bytes), node.name)
            self._reserved.add(sandbox_id)
        try:
            yield
        finally:
            self._reserved.discard(sandbox_id)

    async def make_room_for_warm_sandbox(
        self, warm_count: int, begun_count: int = 0, booting_count: int = 0
    ) -> bool:
        """Whether one more warm sandbox than `warm_count` leaves enough memory for instances.

        `begun_count` others are about to be made, which the engine does not list yet, and
        `booting_count` may not have all their memory yet. If all is taken, an instance that was
        idle for a while hibernates for it, because a warm sandbox brings any of them back quickly.
        """
        limit = await self.limit()
        if warm_count >= limit // WARM_SHARE:
            return False
        available = (await self.agents.engine.memory()).available_bytes
        wanted_bytes = (2 + begun_count + booting_count) * AGENT_MEMORY_BYTES
        if available is not None and available < wanted_bytes:
            return False
        sandboxes = await self.agents.engine.sandboxes()
        # Memory for one stays free, or the new warm sandbox would soon be evicted.
        is_free = len(self._reserved | _in_memory(sandboxes)) + begun_count + 1 < limit
        return is_free or await self._hibernate_one(sandboxes, IDLE_FOR_WARM_S) is not None

    async def _make_room(
        self, sandbox_id: SandboxId, limit: int, node_name: str | None = None
    ) -> None:
        """Evicts others until one more fits, on that node if one is given. Raises HostFull."""
        # The engine's list may show a sandbox as running that has just ended.
        not_counted = {sandbox_id}
        while True:
            listed = await self.agents.engine.sandboxes()
            sandboxes = {
                each: info for each, info in listed.items() if self._is_on(each, node_name)
            }
            reserved = {each for each in self._reserved if self._is_on(each, node_name)}
            if len((reserved | _in_memory(sandboxes)) - not_counted) < limit:
                return
            evicted = await self._evict_one(sandboxes)
            if evicted is None:
                raise HostFull(limit)
            not_counted.add(evicted)

    def _node_of(self, sandbox_id: SandboxId) -> EngineNode | None:
        """The machine of several that has the sandbox's files, and may boot it."""
        name = self.agents.engine.node_of(sandbox_id)
        found = (each for each in self.agents.engine.nodes() if each.name == name)
        # The files move away from a drained machine, to where there is room.
        return next((each for each in found if not each.is_drained), None)

    def _is_on(self, sandbox_id: SandboxId, node_name: str | None) -> bool:
        """Whether it counts for a node; None stands for all of them."""
        return node_name is None or self.agents.engine.node_of(sandbox_id) == node_name

    async def _evict_one(self, sandboxes: dict[SandboxId, SandboxInfo]) -> SandboxId | None:
        """The sandbox that has left memory; None if none can."""
        paused = [each.id for each in sandboxes.values() if each.state is SandboxState.PAUSED]
        owners = await self.agents.instances.owners(paused)
        stopped = [each for each in owners if each.status is InstanceStatus.STOPPED]
        # The one that was stopped longest ago is the least likely to be started soon.
        for instance in sorted(stopped, key=lambda each: each.updated_at):
            with logging_errors(f"sandbox {instance.sandbox_id}: eviction"):
                if await self.agents.evict(instance):
                    return instance.sandbox_id
        for warm in await self.warm_queries.all():
            is_ready = warm.gateway_url is not None and warm.sandbox_id in sandboxes
            with logging_errors(f"sandbox {warm.sandbox_id}: eviction"):
                if is_ready and await self.warm_sandboxes.discard(warm):
                    log.info("warm sandbox %s: evicted for an instance", warm.sandbox_id)
                    return warm.sandbox_id
        return await self._hibernate_one(sandboxes)

    async def _hibernate_one(
        self, sandboxes: dict[SandboxId, SandboxInfo], idle_min_s: float = 0.0
    ) -> SandboxId | None:
        """Hibernates the running instance that was used the longest time ago."""
        running = [each.id for each in sandboxes.values() if each.state is SandboxState.RUNNING]
        owners = await self.agents.instances.owners(running)
        for instance in sorted(owners, key=self.hibernation.idle_s, reverse=True):
            if self.hibernation.idle_s(instance) > idle_min_s:
                with logging_errors(f"sandbox {instance.sandbox_id}: hibernation"):
                    if await self.hibernation.hibernate(instance):
                        return instance.sandbox_id
        return None


def _in_memory(sandboxes: dict[SandboxId, SandboxInfo]) -> set[SandboxId]:
    return {each.id for each in sandboxes.values() if each.state in IN_MEMORY}
