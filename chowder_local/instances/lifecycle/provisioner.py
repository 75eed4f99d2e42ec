"""Provisioning instances in background tasks."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
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
from chowder_local.core.tasks import logging_errors
from chowder_local.instances.lifecycle.agents import Agent
from chowder_local.instances.warm_pool.sandboxes import NeverReady

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance, InstanceId, OrganizationId, WarmSandbox
    from chowder_local.core.fault_injection import FaultDraft, Faults
    from chowder_local.instances.lifecycle.agents import Agents
    from chowder_local.instances.schedule.carried_jobs import CarriedJobs
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.instances.warm_pool.recycling import Recycling
    from chowder_local.instances.warm_pool.sandboxes import WarmSandboxes

log = logging.getLogger(__name__)

DISK_FULL_PAUSE_S = 30.0
"""Between attempts to boot on a full disk; each costs as much as a boot that succeeds."""


@dataclass(eq=False, repr=False, kw_only=True)
class Provisioner:
    """Takes instances from `provisioning` to `running` or `error`."""

    agents: Agents
    carried_jobs: CarriedJobs
    warm_sandboxes: WarmSandboxes
    recycling: Recycling
    snapshots: Snapshots
    faults: Faults
    group: asyncio.TaskGroup

    def __post_init__(self) -> None:
        self._in_progress: dict[InstanceId, asyncio.Task[None]] = {}
        self._not_before_s: dict[InstanceId, float] = {}
        self._booting: set[InstanceId] = set()
        self.on_end: Callable[[], None] = lambda: None
        """Called when an instance is not being provisioned any more."""

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
        if warm_sandbox is None:
            self._booting.add(instance.id)
        task = self.group.create_task(work, name=f"boot {instance.id}")
        self._in_progress[instance.id] = task
        task.add_done_callback(lambda _: self._end(instance.id))

    def _end(self, instance_id: InstanceId) -> None:
        self._in_progress.pop(instance_id, None)
        self._booting.discard(instance_id)
        self.on_end()

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

    @property
    def boot_count(self) -> int:
        """The number of those without a warm sandbox."""
        return len(self._booting)

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
        with logging_errors(f"instance {instance.id}: boot"):
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
        agent = Agent(self.agents, instance)
        try:
            if fault is not None:
                await self._inject(agent, fault)
            gateway_url = await self._bring_up(agent, warm_sandbox)
        except (EngineUnavailable, HostFull, ImageMissing) as unavailable:
            log.warning("instance %s: boot postponed: %s", instance.id, unavailable)
            await self._postpone(agent, str(unavailable))
        except OriginMissing as missing:
            log.info("instance %s: deleted: %s", instance.id, missing)
            await agent.to_terminated()
            await self.agents.discard(instance.sandbox_id)
        except DiskFull as full:
            log.warning("instance %s: boot postponed: %s", instance.id, full)
            self._not_before_s[instance.id] = time.monotonic() + DISK_FULL_PAUSE_S
            await self._postpone(agent, str(full))
        except ChowderError as failure:
            log.warning("instance %s: boot failed: %s", instance.id, failure)
            await agent.to_error(str(failure))
        except Exception:
            # A defect in this server must not end its other work.
            log.exception("instance %s: boot failed unexpectedly", instance.id)
            reason = "An internal error; the server's log has the details."
            await agent.to_error(reason)
        else:
            if await agent.to_running(gateway_url) and agent.row.clock != instance.clock:
                # It was set during the boot.
                await agent.set_clock(gateway_url)

    async def _bring_up(self, agent: Agent, warm_sandbox: WarmSandbox | None) -> str:
        """The gateway's address, once the agent is ready. Raises ChowderError."""
        instance, gateway_url, is_booted = agent.row, None, False
        if warm_sandbox is not None:
            try:
                gateway_url = await self.warm_sandboxes.turn_into(instance, warm_sandbox)
            except NeverReady as failure:
                log.warning("instance %s: takes another sandbox: %s", instance.id, failure)
                gateway_url = await self.agents.take_another(agent)
            except ChowderError as failure:
                log.warning("instance %s: its warm sandbox failed: %s", instance.id, failure)
        else:
            gateway_url = await self.agents.move_home(agent)
        if gateway_url is None:
            gateway_url, is_booted = await agent.boot(), True
            await self.recycling.look_at(agent.row)
        await self.snapshots.restore_conversations(instance)
        gateway = self.agents.gateway_of(agent.row.sandbox_id, gateway_url)
        await self.carried_jobs.settle(instance, gateway, is_booted=is_booted)
        return gateway_url

    async def _inject(self, agent: Agent, fault: FaultDraft) -> None:
        """Delays the boot, or fails it; but raises errors first that it would have anyway."""
        await agent.check_boot()
        # Outside the queue, so that no other boot waits for the delay.
        await asyncio.sleep(fault.delay_s)
        if fault.detail is not None:
            await agent.fail_boot(fault.detail)

    async def _postpone(self, agent: Agent, reason: str) -> None:
        if agent.row.first_ready_at is None:
            # A new instance has no data to lose: its client may create another.
            await agent.to_error(f"This instance was never ready and is not booted again. {reason}")
        else:
            # The instance has files, so the reconciler tries again until the engine has what a boot
            # needs.
            await agent.postpone(reason)
