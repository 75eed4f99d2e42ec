"""Freezing the sandbox of an instance between turns, resuming it and discarding it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.domain import SandboxState
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused
from chowder_local.core.tasks import contained

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.core.tasks import KeyedLocks
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.drain import Drain
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)


class SandboxControl:
    """Operations on sandboxes that stop, start, snapshots and configuration share."""

    def __init__(
        self, engine: Engine, drain: Drain, instances: InstanceQueries, locks: KeyedLocks
    ) -> None:
        self._engine = engine
        self._drain = drain
        self._instances = instances
        self._locks = locks

    async def freeze(self, instance: Instance) -> None:
        """Freezes a sandbox after a drain. Does nothing to one that has died.

        Raises ChowderError if the engine fails; the sandbox accepts turns again then.
        """
        await self._drain.drain(instance, instance.gateway_url)
        try:
            sandbox = await self._engine.inspect(instance.sandbox_id)
            if sandbox.state is SandboxState.RUNNING:
                await self._engine.pause(instance.sandbox_id)
        except ChowderError:
            await self._drain.resume_if_suspended(instance)
            raise

    async def drain(self, instance: Instance) -> None:
        """Drains a sandbox that is about to be discarded."""
        await self._drain.drain(instance, instance.gateway_url)

    @asynccontextmanager
    async def frozen(self, instance: Instance) -> AsyncIterator[None]:
        """Keeps a running instance frozen during the block, after a drain.

        All its files are then of one moment, as after a power cut, which SQLite survives.
        """
        if not instance.is_in_memory:
            yield
            return
        # One whose machine is away would be drained for minutes, as nobody could end that.
        found = await self._engine.inspect(instance.sandbox_id)
        if found.state is SandboxState.PAUSED:
            # Its machine was cut off. Frozen, it takes no drain, and would stay frozen until the
            # attempts end, as the reconciler waits for this.
            await self._engine.unpause(instance.sandbox_id)
        await self._drain.drain(instance, instance.gateway_url)
        try:
            is_frozen = await self._pause(instance.sandbox_id)
            try:
                yield
            finally:
                if is_frozen:
                    await self._engine.unpause(instance.sandbox_id)
        finally:
            await self._end_drain(instance)

    async def resume(self, instance: Instance) -> Instance:
        """The instance as it is once no stop is in progress; ends a drain that is left over."""
        async with self._locks.holding(instance.id):
            current = await self._instances.get(instance.id) or instance
            if current.is_in_memory:
                await self._drain.resume_if_suspended(current)
            return current

    async def resume_all(self) -> None:
        """Ends the drains of stops that the end of an earlier server process interrupted."""
        running = [
            each for each in await self._instances.running_or_provisioning() if each.is_in_memory
        ]
        await asyncio.gather(*(self._resume_contained(each) for each in running))

    async def discard(self, sandbox_id: SandboxId) -> None:
        """Destroys a sandbox that belongs to no instance; if that fails, the reconciler does."""
        self._drain.forget(sandbox_id)
        try:
            await self._engine.remove(sandbox_id)
        except ChowderError as problem:
            log.warning("sandbox %s: removal postponed: %s", sandbox_id, problem)

    def forget(self, sandbox_id: SandboxId) -> None:
        """Drops the drain of a sandbox that is about to be replaced."""
        self._drain.forget(sandbox_id)

    async def remove(self, sandbox_id: SandboxId) -> None:
        """Destroys a sandbox. Raises EngineUnavailable."""
        self._drain.forget(sandbox_id)
        await self._engine.remove(sandbox_id)

    async def _pause(self, sandbox_id: SandboxId) -> bool:
        """False if the sandbox has died; the reconciler boots it again."""
        try:
            await self._engine.pause(sandbox_id)
        except ChowderError:
            if (await self._engine.inspect(sandbox_id)).state is SandboxState.RUNNING:
                raise
            return False
        return True

    async def _end_drain(self, instance: Instance) -> None:
        try:
            await self._drain.resume(instance, instance.gateway_url)
        except (GatewayUnavailable, RpcRefused) as reason:
            # The next message ends the drain.
            log.warning("instance %s: still drained: %s", instance.id, reason)

    async def _resume_contained(self, instance: Instance) -> None:
        with (
            logs.for_instance(instance.id),
            contained(f"sandbox {instance.sandbox_id}: resuming"),
        ):
            await self.resume(instance)
