"""Booting the sandbox of an instance, from its volume or a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import SandboxSpec
from chowder_local.core.errors.sandboxes import BootFailed, SandboxMissing
from chowder_local.core.tasks import contained
from chowder_local.openclaw.config import agent_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.domain import Instance
    from chowder_local.instances.configuration.initial_config import InitialConfigs
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.boot_queue import BootQueue
    from chowder_local.instances.lifecycle.capacity import Capacity
    from chowder_local.instances.lifecycle.egress import EgressRule
    from chowder_local.instances.lifecycle.readiness import Readiness
    from chowder_local.instances.snapshots.service import Snapshots


@dataclass(eq=False, repr=False, kw_only=True)
class SandboxBoot:
    """Boots sandboxes in the order of the queue, once there is memory for each."""

    engine: Engine
    queue: BootQueue
    capacity: Capacity
    initial_configs: InitialConfigs
    snapshots: Snapshots
    egress: EgressRule
    readiness: Readiness

    async def boot(self, instance: Instance, files: Mapping[str, bytes] | None = None) -> str:
        """Creates the instance's sandbox and returns the gateway's address once it is ready.

        An instance that was ready before keeps its volume; leftovers of one that never was are
        removed first. `files` are written to the volume. A sandbox that does not become ready is
        ended. Raises ChowderError.
        """
        # Waits for a copy that is in progress, and so must not hold a place in the queue yet.
        origin = await self.snapshots.origin(instance)
        async with self.capacity.reserve(instance.sandbox_id), self.queue.turn(instance):
            content = dict(files or {})
            if instance.first_ready_at is None:
                config = await self.initial_configs.first(instance, origin)
                content[agent_config.CONFIG_FILE] = config
                await self.engine.remove(instance.sandbox_id)
            elif instance.sandbox_id not in await self.engine.volumes():
                raise SandboxMissing(
                    f"The volume {instance.sandbox_id} with the agent's files and memory is gone "
                    "from the engine. Restore a snapshot of the instance, or delete it."
                )
            spec = SandboxSpec(
                instance.sandbox_id,
                content,
                egress=self.egress.effective(instance),
                home=None if origin is None else origin.archive,
                openclaw_version=instance.openclaw_version,
            )
            sandbox = await self.engine.boot(spec)
            try:
                return await self.readiness.wait(sandbox)
            except BootFailed:
                # It may be ready later: it would answer its channels' messages and call models,
                # and it holds memory. The volume stays.
                with contained(f"sandbox {instance.sandbox_id}: ending it after a failed boot"):
                    await self.engine.release(instance.sandbox_id)
                raise

    async def check(self, instance: Instance) -> None:
        """Raises the errors that a first boot would have before it is queued."""
        await self.initial_configs.first(instance, await self.snapshots.origin(instance))

    async def fail(self, instance: Instance, reason: str) -> None:
        """Queues a boot that fails, for an injected fault. Raises BootFailed."""
        async with self.queue.turn(instance):
            raise BootFailed(reason)
