"""Renaming an instance, and merging overrides into its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.openclaw.config import agent_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from chowder_local.core.domain import Instance, OrganizationId
    from chowder_local.core.tasks import KeyedLocks
    from chowder_local.instances.configuration.live_config import LiveConfig
    from chowder_local.instances.directory import InstanceDirectory
    from chowder_local.instances.lifecycle.in_memory import InMemory
    from chowder_local.instances.lifecycle.sandbox_control import SandboxControl
    from chowder_local.instances.lifecycle.waking import Waking
    from chowder_local.instances.transitions import Transitions
    from chowder_local.store.instances import InstanceChanges


@dataclass(frozen=True)
class ChangedInstance:
    """A changed instance, and whether its gateway has restarted itself for the change."""

    instance: Instance
    has_restarted: bool


@dataclass(eq=False, repr=False, kw_only=True)
class Reconfiguration:
    """Changes the agent first, then the row: if OpenClaw refuses, nothing changes."""

    directory: InstanceDirectory
    transitions: Transitions
    locks: KeyedLocks
    live_config: LiveConfig
    waking: Waking
    in_memory: InMemory
    sandbox_control: SandboxControl

    async def change(
        self,
        organization_id: OrganizationId,
        instance_id: str,
        *,
        name: str | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> ChangedInstance:
        """Renames the instance and merges overrides into those that it has.

        Raises InstanceNotFound; InstanceStateWrong if it is deleted, or is to get overrides and is
        neither running nor stopped; ConfigRefused if OpenClaw refuses the overrides.
        """
        stale = await self.directory.get_for_request(organization_id, instance_id)
        has_restarted = False
        async with self.locks.holding(stale.id):
            instance = await self.directory.current(stale)
            fields: InstanceChanges = {} if name is None else {"name": name}
            if overrides:
                instance = await self.in_memory.bring_back(instance)
                has_restarted = await self._configure(
                    instance, agent_config.to_merge_patch(overrides)
                )
                fields["openclaw_config"] = agent_config.apply_change(
                    instance.openclaw_config, overrides, instance.model_provider
                )
            if instance.status is InstanceStatus.TERMINATED:
                raise InstanceStateWrong(instance.status, "alive")
            changed = await self.transitions.update(instance, **fields)
        if changed is None:
            raise InstanceNotFound
        return ChangedInstance(changed, has_restarted)

    async def _configure(self, instance: Instance, patch: Mapping[str, Any]) -> bool:
        if instance.status is InstanceStatus.RUNNING:
            return await self.live_config.change(instance, patch)
        if instance.status is InstanceStatus.STOPPED:
            # Only the agent itself can validate its configuration, so it is resumed for that.
            resumed = await self.waking.wake(instance)
            try:
                return await self.live_config.change(resumed, patch)
            finally:
                await self.sandbox_control.freeze(resumed)
        raise InstanceStateWrong(instance.status, "running or stopped", instance.error_message)
