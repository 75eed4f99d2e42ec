"""Stopping, starting and deleting instances, as users ask for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.core.errors.sandboxes import (
    DiskFull,
    EngineSilent,
    EngineUnavailable,
    HostFull,
    ImageMissing,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance, InstanceId, OrganizationId
    from chowder_local.core.keyed_lock import KeyedLocks
    from chowder_local.instances.directory import InstanceDirectory
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.lifecycle.sandbox_control import SandboxControl
    from chowder_local.instances.lifecycle.waking import Waking
    from chowder_local.instances.transitions import Transitions

log = logging.getLogger(__name__)


class Lifecycle:
    """Moves instances as their users want; one move at a time for each instance."""

    def __init__(
        self,
        *,
        directory: InstanceDirectory,
        transitions: Transitions,
        locks: KeyedLocks,
        sandbox_control: SandboxControl,
        waking: Waking,
        provisioner: Provisioner,
        on_delete: Callable[[InstanceId], None],
    ) -> None:
        self._directory = directory
        self._transitions = transitions
        self._locks = locks
        self._sandbox_control = sandbox_control
        self._waking = waking
        self._provisioner = provisioner
        self._on_delete = on_delete

    async def stop(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """Freezes a running instance once its turn has ended, or the wait for that is over."""
        seen = await self._directory.begin(organization_id, instance_id)
        async with self._locks.holding(seen.id):
            instance = await self._directory.current(seen, InstanceStatus.RUNNING)
            await self._sandbox_control.freeze(instance, instance.gateway_url)
            stopped = await self._transitions.to_stopped(instance)
        return stopped or await self._lost(instance)

    async def start(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """Lets a stopped instance go on where it was; it takes turns when this returns."""
        seen = await self._directory.begin(organization_id, instance_id)
        async with self._locks.holding(seen.id):
            instance = await self._directory.current(seen, InstanceStatus.STOPPED)
            try:
                gateway_url = await self._waking.wake(instance)
            except (EngineUnavailable, HostFull, ImageMissing, DiskFull):
                # It may be started once the engine is back or has what it needs; nothing is lost.
                raise
            except ChowderError as failure:
                await self._transitions.to_error(instance, str(failure))
                raise
            started = await self._transitions.to_running(instance, gateway_url)
        return started or await self._lost(instance)

    async def delete(self, organization_id: OrganizationId, instance_id: str) -> None:
        """Destroys the sandbox with its data; the row stays as `terminated`.

        While the engine does not answer, nobody reaches the agent any more, nor does it reach a
        model; the reconciler destroys it as soon as the engine is back.
        """
        instance = await self._directory.begin(organization_id, instance_id)
        async with self._locks.holding(instance.id):
            await self._provisioner.abandon(instance.id)
            # The row first: should we die before the sandbox is gone, the reconciler goes on.
            await self._transitions.to_terminated(instance)
            self._on_delete(instance.id)
            try:
                await self._sandbox_control.remove(instance.sandbox_id)
            except EngineSilent as silent:
                # Asking again would do no more than the reconciler does unasked.
                log.warning(
                    "instance %s: deleted, but its sandbox not yet: %s", instance.id, silent
                )
            else:
                log.info("instance %s: deleted with sandbox %s", instance.id, instance.sandbox_id)

    async def withdraw(self, made: Instance) -> None:
        """Takes back an instance that nobody was told of."""
        async with self._locks.holding(made.id):
            await self._provisioner.abandon(made.id)
            await self._transitions.to_terminated(made)
            await self._sandbox_control.discard(made.sandbox_id)

    async def _lost(self, instance: Instance) -> NoReturn:
        """Raises InstanceStateWrong: something else has moved the instance meanwhile."""
        current = await self._directory.current(instance)
        raise InstanceStateWrong(current.status, instance.status)
