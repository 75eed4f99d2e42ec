"""Healing an instance whose row and sandbox disagree."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import InstanceStatus, SandboxInfo, SandboxState
from chowder_local.core.events import EventType
from chowder_local.instances.lifecycle.readiness import out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.core.events import Events
    from chowder_local.core.tasks import KeyedLocks
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.egress import EgressRule
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.transitions import Transitions
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)

DEATHS_ALLOWED = 3
"""After each of so many deaths the sandbox is booted again; one more is an error."""
DEATHS_WINDOW_S = 300.0
CHECKS = 5
CHECK_INTERVAL_S = 0.1


@dataclass(eq=False, repr=False, kw_only=True)
class Healing:
    """Repairs an instance's sandbox to match its row, or its row to match its sandbox."""

    instances: InstanceQueries
    transitions: Transitions
    locks: KeyedLocks
    engine: Engine
    provisioner: Provisioner
    egress: EgressRule
    events: Events
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._deaths: defaultdict[InstanceId, deque[datetime]] = defaultdict(
            lambda: deque(maxlen=DEATHS_ALLOWED)
        )

    async def check(self, instance: Instance) -> None:
        """Heals an instance at once, because a message to it failed."""
        for _ in range(CHECKS):
            if await self.heal(instance):
                return
            # Connections break a moment before the engine knows that the sandbox has ended.
            await asyncio.sleep(CHECK_INTERVAL_S)

    async def reboot(self, instance: Instance) -> None:
        """Boots a running instance again on its volume, because it does not recover by itself."""
        async with self.locks.holding(instance.id):
            current = await self.instances.get(instance.id)
            if current is None or self.provisioner.is_in_progress(instance.id):
                return
            if current.is_in_memory:
                log.warning("instance %s: does not recover, is booted again", instance.id)
                await self._boot_again(current)

    async def heal(self, stale: Instance) -> bool:
        """Whether a repair was made, or is in progress. Raises EngineUnavailable."""
        if self.provisioner.is_in_progress(stale.id):
            return True
        async with self.locks.holding(stale.id):
            instance = await self.instances.get(stale.id)
            if instance is None or self.provisioner.is_in_progress(stale.id):
                return True
            sandbox = await self.engine.inspect(instance.sandbox_id)
            if not self.is_needed(instance, sandbox):
                return False
            log.info("instance %s is %s, its sandbox %s", stale.id, instance.status, sandbox.state)
            await self._repair(instance, sandbox)
            self.events.publish(
                EventType.SANDBOX_RECONCILED,
                instance.organization_id,
                instance.id,
                sandbox_id=instance.sandbox_id,
                status=instance.status,
                state=sandbox.state,
            )
            return True

    def is_due(self, instance: Instance, sandbox: SandboxInfo | None) -> bool:
        """Whether `heal` is needed, and no other task holds the instance's lock."""
        return self.is_needed(instance, sandbox) and not self.locks.is_held(instance.id)

    def is_needed(self, instance: Instance, sandbox: SandboxInfo | None) -> bool:
        """Whether row and sandbox disagree in a way that `heal` can repair."""
        state = SandboxState.MISSING if sandbox is None else sandbox.state
        if instance.status is InstanceStatus.PROVISIONING:
            return True
        if instance.is_hibernated or instance.status is InstanceStatus.ERROR:
            # Left by a crash while it left memory or came back, or by a failure after the boot.
            return state in {SandboxState.RUNNING, SandboxState.PAUSED}
        if instance.status is InstanceStatus.RUNNING:
            has_moved = sandbox is not None and sandbox.gateway_url != instance.gateway_url
            is_down = state is not SandboxState.RUNNING
            return is_down or has_moved or self._has_wrong_egress(instance, sandbox)
        # The container of a stopped instance may be gone: a start boots it from its volume.
        return instance.status is InstanceStatus.STOPPED and state is SandboxState.RUNNING

    def forget_deaths(self) -> None:
        """Forgets all deaths, because the engine itself was down."""
        self._deaths.clear()

    def forget_old_deaths(self) -> None:
        """Forgets the deaths before the window, also of instances that are deleted."""
        now = self.clock()
        for instance_id, deaths in list(self._deaths.items()):
            if (now - deaths[-1]).total_seconds() >= DEATHS_WINDOW_S:
                del self._deaths[instance_id]

    def _has_wrong_egress(self, instance: Instance, sandbox: SandboxInfo | None) -> bool:
        return sandbox is not None and not self.egress.fits(instance, sandbox)

    async def _repair(self, instance: Instance, sandbox: SandboxInfo) -> None:
        if instance.status is InstanceStatus.PROVISIONING:
            self.provisioner.begin(instance)
        elif instance.status is InstanceStatus.STOPPED:
            await self.engine.pause(instance.sandbox_id)
        elif instance.status is InstanceStatus.ERROR or instance.is_hibernated:
            # It takes no messages, or is brought back by the next one: it needs no boot.
            await self.engine.release(instance.sandbox_id)
        elif not self.egress.fits(instance, sandbox):
            await self._boot_again(instance)
        elif sandbox.state is SandboxState.PAUSED:
            await self.engine.unpause(instance.sandbox_id)
        elif sandbox.state is SandboxState.RUNNING and sandbox.gateway_url is not None:
            await self.transitions.update(instance, gateway_url=sandbox.gateway_url)
        else:
            await self._revive(instance, sandbox)

    async def _revive(self, instance: Instance, sandbox: SandboxInfo) -> None:
        # If the sandbox is gone or was signalled by the engine, the agent did not end it
        # itself, so this is no death.
        has_died = sandbox.state in {SandboxState.EXITED, SandboxState.CREATED}
        has_died = has_died and (sandbox.is_oom_killed or not sandbox.is_signalled)
        if not has_died or not self._dies_too_often(instance):
            await self._boot_again(instance)
            return
        what = out_of_memory(sandbox) if sandbox.is_oom_killed else f"is {sandbox.state}"
        await self.transitions.to_error(
            instance,
            f"The sandbox {what} and has died {DEATHS_ALLOWED + 1} times within "
            f"{DEATHS_WINDOW_S:g} s. Its files are kept; see its log with: "
            f"chowder-local logs {instance.id}",
        )

    async def _boot_again(self, instance: Instance) -> None:
        revived = await self.transitions.to_provisioning(instance)
        if revived is not None:
            self.provisioner.begin(revived)

    def _dies_too_often(self, instance: Instance) -> bool:
        deaths, now = self._deaths[instance.id], self.clock()
        is_too_often = (
            len(deaths) == DEATHS_ALLOWED and (now - deaths[0]).total_seconds() < DEATHS_WINDOW_S
        )
        deaths.append(now)
        return is_too_often
