"""Provisioning instances in background tasks."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.sandboxes import (
    DiskFull,
    EngineUnavailable,
    HostFull,
    ImageMissing,
    OriginMissing,
)
from chowder_local.core.fault_injection import Call, FaultKind
from chowder_local.core.tasks import contained

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance, InstanceId, OrganizationId, WarmSandbox
    from chowder_local.core.fault_injection import FaultDraft, Faults
    from chowder_local.instances.lifecycle.sandbox_boot import SandboxBoot
    from chowder_local.instances.lifecycle.sandbox_control import SandboxControl
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.instances.transitions import Transitions
    from chowder_local.instances.warm_pool.rehydration import Rehydration
    from chowder_local.instances.warm_pool.sandboxes import WarmSandboxes

log = logging.getLogger(__name__)

DISK_FULL_PAUSE_S = 30.0
"""Between attempts to boot on a full disk; each costs as much as a boot that succeeds."""


@dataclass(eq=False, repr=False, kw_only=True)
class Provisioner:
    """Takes instances from `provisioning` to `running` or `error`."""

    transitions: Transitions
    sandbox_boot: SandboxBoot
    sandbox_control: SandboxControl
    warm_sandboxes: WarmSandboxes
    rehydration: Rehydration
    snapshots: Snapshots
    faults: Faults
    group: asyncio.TaskGroup

    def __post_init__(self) -> None:
        self._in_progress: dict[InstanceId, asyncio.Task[None]] = {}
        self._not_before_s: dict[InstanceId, float] = {}
        self.on_idle: Callable[[], None] = lambda: None
        """Called when nothing is being provisioned any more."""

    def begin(self, instance: Instance, warm_sandbox: WarmSandbox | None = None) -> None:
        """Boots an instance that is `provisioning`, unless its boot is in progress.

        Resumes the warm sandbox instead, if the instance has claimed one.
        """
        is_resting = time.monotonic() < self._not_before_s.get(instance.id, 0.0)
        if instance.id in self._in_progress or is_resting:
            return
        self._not_before_s.pop(instance.id, None)
        fault = None
        if self.faults.are_set and instance.first_ready_at is None:
            call = Call({FaultKind.PROVISIONING}, instance_id=instance.id)
            fault = self.faults.take(instance.organization_id, call)
        work = self._contained(instance, warm_sandbox, fault)
        task = self.group.create_task(work, name=f"boot {instance.id}")
        self._in_progress[instance.id] = task
        task.add_done_callback(lambda _: self._end(instance.id))

    def _end(self, instance_id: InstanceId) -> None:
        self._in_progress.pop(instance_id, None)
        if not self._in_progress:
            self.on_idle()

    def next_creation_fails(self, organization_id: OrganizationId) -> bool:
        """Whether an injected fault fails the organization's next new instance."""
        fault = self.faults.find(organization_id, Call({FaultKind.PROVISIONING}))
        return fault is not None and fault.draft.detail is not None

    def is_in_progress(self, instance_id: InstanceId) -> bool:
        """Whether the instance is being provisioned now."""
        return instance_id in self._in_progress

    @property
    def in_progress_count(self) -> int:
        """The number of instances that are being provisioned, including those in the queue."""
        return len(self._in_progress)

    async def abandon(self, instance_id: InstanceId) -> None:
        """Cancels the provisioning of an instance, and returns once it has ended."""
        if (task := self._in_progress.get(instance_id)) is not None:
            task.cancel()
            await asyncio.wait([task])
        self._not_before_s.pop(instance_id, None)

    async def _contained(
        self, instance: Instance, warm_sandbox: WarmSandbox | None, fault: FaultDraft | None
    ) -> None:
        # If the outcome cannot be written, the reconciler begins again.
        with contained(f"instance {instance.id}: boot"):
            try:
                await self._provision(instance, warm_sandbox, fault)
            finally:
                if warm_sandbox is not None:
                    await self.warm_sandboxes.forget(warm_sandbox.sandbox_id)

    async def _provision(
        self, instance: Instance, warm_sandbox: WarmSandbox | None, fault: FaultDraft | None
    ) -> None:
        logs.set_instance(instance.id)
        log.info("instance %s: booting sandbox %s", instance.id, instance.sandbox_id)
        try:
            if fault is not None:
                await self._inject(instance, fault)
            ready = await self._bring_up(instance, warm_sandbox)
        except (EngineUnavailable, HostFull, ImageMissing) as unavailable:
            log.warning("instance %s: boot postponed: %s", instance.id, unavailable)
            await self._postpone(instance, str(unavailable))
        except OriginMissing as missing:
            log.info("instance %s: deleted: %s", instance.id, missing)
            await self.transitions.to_terminated(instance)
            await self.sandbox_control.discard(instance.sandbox_id)
        except DiskFull as full:
            log.warning("instance %s: boot postponed: %s", instance.id, full)
            self._not_before_s[instance.id] = time.monotonic() + DISK_FULL_PAUSE_S
            await self._postpone(instance, str(full))
        except ChowderError as failure:
            log.warning("instance %s: boot failed: %s", instance.id, failure)
            await self.transitions.to_error(instance, str(failure))
        except Exception:
            # A defect in this server must not end its other work.
            log.exception("instance %s: boot failed unexpectedly", instance.id)
            reason = "An internal error; the server's log has the details."
            await self.transitions.to_error(instance, reason)
        else:
            await self.transitions.to_running(ready)

    async def _bring_up(self, instance: Instance, warm_sandbox: WarmSandbox | None) -> Instance:
        """The instance with its sandbox and address, once it is ready. Raises ChowderError."""
        ready = None
        if warm_sandbox is not None:
            try:
                gateway_url = await self.warm_sandboxes.wake(instance, warm_sandbox)
                ready = replace(instance, gateway_url=gateway_url)
            except ChowderError as failure:
                log.warning("instance %s: its warm sandbox failed: %s", instance.id, failure)
        else:
            ready = await self.rehydration.move(instance)
        if ready is None:
            gateway_url = await self.sandbox_boot.boot(instance)
            ready = replace(instance, gateway_url=gateway_url)
        await self.snapshots.restore_conversations(instance)
        return ready

    async def _inject(self, instance: Instance, fault: FaultDraft) -> None:
        """Delays the boot, or fails it; but raises errors first that it would have anyway."""
        await self.sandbox_boot.check(instance)
        # Outside the queue, so that no other boot waits for the delay.
        await asyncio.sleep(fault.delay_s)
        if fault.detail is not None:
            await self.sandbox_boot.fail(instance, fault.detail)

    async def _postpone(self, instance: Instance, reason: str) -> None:
        if instance.first_ready_at is None:
            # A new instance has no data to lose: its client may create another.
            await self.transitions.to_error(instance, reason)
        else:
            # It has files, so the reconciler tries again until the engine has what it needs.
            await self.transitions.postpone(instance, reason)
