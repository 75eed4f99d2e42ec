"""Running agents in memory: held there while they are used, and hibernated while nobody does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import LRUCache, TTLCache

from chowder_local.core import logs
from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.errors.agents import GatewaySuspended, GatewayUnavailable, RpcRefused
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.core.tasks import logging_errors, run_every
from chowder_local.openclaw.gateway import PROBE_INTERVAL_S
from chowder_local.openclaw.refusals import SUSPENSION_TIMEOUT_S
from chowder_local.openclaw.shortcuts import HIBERNATION
from chowder_local.openclaw.standing_work import (
    StandingWork,
    find_standing_work,
    has_foreign_process,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId, SandboxId
    from chowder_local.instances.lifecycle.agents import Agent, Agents
    from chowder_local.instances.schedule.due_jobs import DueJobs
    from chowder_local.openclaw.shortcuts import MayTake

log = logging.getLogger(__name__)

ENDS_KEPT = 10_000
BUSY_KEPT = 4096
BUSY_KEPT_S = 60.0
"""For how long an agent that has work of its own is not asked again."""


@dataclass(eq=False, repr=False, kw_only=True)
class Residency:
    """The one way to a running agent: code that calls its sandbox holds it in memory by `using`."""

    agents: Agents
    group: asyncio.TaskGroup
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._counts: Counter[InstanceId] = Counter()
        # Of the latest only: a request that is late may still use an instance that is deleted.
        self._ends: LRUCache[InstanceId, datetime] = LRUCache(ENDS_KEPT)
        self._began = self.clock()
        self._addresses: dict[InstanceId, str | None] = {}
        """Of the instances that have left memory, or were about to; None until they are back."""
        self._coming_back: dict[InstanceId, asyncio.Future[Instance]] = {}

    @asynccontextmanager
    async def using(
        self, instance: Instance, suspension_timeout_s: float = SUSPENSION_TIMEOUT_S
    ) -> AsyncIterator[Instance]:
        """A running instance, in memory during the block; waits if it was hibernated.

        It waits for a stop or a copy of the agent in progress, too. Raises InstanceStateWrong if
        it does not run, GatewaySuspended after `suspension_timeout_s`, and what `Agent.bring_back`
        raises.
        """
        if instance.status is not InstanceStatus.RUNNING:
            raise InstanceStateWrong(
                instance.status, InstanceStatus.RUNNING, instance.error_message
            )
        with self.counting(instance.id):
            if self.is_stale(instance):
                instance = await self._current(instance)
            if instance.sandbox_id in self.agents.drains:
                ends_s = time.monotonic() + suspension_timeout_s
                await self.wait_out_suspension(instance.sandbox_id, ends_s)
            yield instance

    async def _current(self, stale: Instance) -> Instance:
        # It goes on if the caller leaves: a boot takes longer than some clients wait.
        pending = self._coming_back.get(stale.id)
        if pending is None:
            pending = self._coming_back[stale.id] = asyncio.get_running_loop().create_future()
            work = self._settle(stale, pending)
            self.group.create_task(work, name=f"bring back {stale.id}")
        return await asyncio.shield(pending)

    async def _settle(self, stale: Instance, pending: asyncio.Future[Instance]) -> None:
        try:
            async with self.agents.holding(stale, InstanceStatus.RUNNING) as agent:
                await agent.bring_back()
                self.end_leaving(agent.row)
            pending.set_result(agent.row)
        except Exception as problem:  # noqa: BLE001 - raised to those who wait
            pending.set_exception(problem)
            # Perhaps nobody waits any more.
            pending.exception()
        finally:
            del self._coming_back[stale.id]
            pending.cancel()

    async def wait_out_suspension(self, sandbox_id: SandboxId, ends_s: float) -> None:
        """Waits until a suspended gateway takes turns again; the caller may hold its configuration.

        Raises InstanceStateWrong if the agent was stopped, InstanceNotFound if it was deleted, and
        GatewaySuspended at `ends_s` on the monotonic clock.
        """
        is_left_over = True
        while True:
            instance = await self.agents.instances.by_sandbox(sandbox_id)
            if instance is None:
                raise InstanceNotFound
            if instance.status is not InstanceStatus.RUNNING:
                raise InstanceStateWrong(
                    instance.status, InstanceStatus.RUNNING, instance.error_message
                )
            gateway = self.agents.gateway_of(sandbox_id, instance.gateway_url)
            is_started = await gateway.is_started()
            if not is_started and time.monotonic() >= ends_s:
                raise GatewaySuspended("a stop, a snapshot or a fork of the instance takes long")
            if not is_started and is_left_over and not self.agents.is_held(instance.id):
                # Nobody stops or copies it, so this does not wait for another task. OpenClaw
                # limits suspensions, so it is done once.
                await self.wait_until_resumed(instance)
                is_left_over = False
            # Also once it is started: OpenClaw may still refuse the call.
            await asyncio.sleep(PROBE_INTERVAL_S)
            if is_started:
                return

    async def wait_until_resumed(self, instance: Instance) -> None:
        """Waits for a stop in progress. Raises InstanceStateWrong if the agent is stopped then."""
        async with self.agents.holding(instance, InstanceStatus.RUNNING) as agent:
            if agent.row.is_in_memory:
                await agent.end_leftover_drain()

    @contextmanager
    def counting(self, instance_id: InstanceId) -> Iterator[None]:
        """Keeps the instance in memory during the block, if it is there."""
        self._counts[instance_id] += 1
        try:
            yield
        finally:
            # It may have been deleted meanwhile.
            if instance_id in self._counts:
                self._counts[instance_id] -= 1
                if not self._counts[instance_id]:
                    del self._counts[instance_id]
                self._ends[instance_id] = self.clock()

    def begin_leaving(self, instance_id: InstanceId) -> bool:
        """Whether nobody uses it; if so, every row of it that was read before is stale."""
        if instance_id in self._counts:
            return False
        self.mark_stale(instance_id)
        return True

    def mark_stale(self, instance_id: InstanceId) -> None:
        """From now on, each use waits for the instance's lock and reads its row again."""
        self._addresses[instance_id] = None

    def is_stale(self, instance: Instance) -> bool:
        """Whether it may have left memory, or come back elsewhere, since its row was read."""
        address = self._addresses.get(instance.id, instance.gateway_url)
        return address is None or address != instance.gateway_url

    def end_leaving(self, instance: Instance) -> None:
        """It is in memory as this row says: it came back, or has not left after all."""
        self._addresses[instance.id] = instance.gateway_url

    def is_used(self, instance_id: InstanceId) -> bool:
        """Whether a call needs it now."""
        return instance_id in self._counts

    def idle_s(self, instance: Instance) -> float:
        """For how long nobody has used an instance, and it has not changed."""
        if self.is_used(instance.id):
            return 0.0
        since = max(self._ends.get(instance.id, self._began), instance.updated_at)
        return (self.clock() - since).total_seconds()

    def forget(self, instance_id: InstanceId) -> None:
        """Drops what is known of an instance that is deleted."""
        self._counts.pop(instance_id, None)
        self._ends.pop(instance_id, None)
        self._addresses.pop(instance_id, None)


@dataclass(eq=False, repr=False, kw_only=True)
class Hibernation:
    """Releases the sandboxes of running instances that nobody uses. Their status stays."""

    agents: Agents
    residency: Residency
    due_jobs: DueJobs
    standing_work: Sequence[Callable[[InstanceId], bool]]
    """Whether a feature has something for which an instance must stay in memory."""
    allows: MayTake
    after_s: float
    interval_s: float

    def __post_init__(self) -> None:
        self._busy: TTLCache[InstanceId, str] = TTLCache(BUSY_KEPT, BUSY_KEPT_S)

    async def run(self) -> None:
        """Hibernates what was idle for long enough, at intervals, until cancelled."""
        await run_every(self.interval_s, "hibernating", self.hibernate_idle)

    async def hibernate_idle(self) -> None:
        """Hibernates each instance that was idle for long enough."""
        for instance in await self.agents.instances.running_or_provisioning():
            if self.idle_s(instance) >= self.after_s:
                with (
                    logs.for_instance(instance.id),
                    logging_errors(f"instance {instance.id}: hibernating"),
                ):
                    await self.hibernate(instance)

    def idle_s(self, instance: Instance) -> float:
        """For how long nobody has used an instance; 0 if it may not hibernate now."""
        if not (instance.is_in_memory and instance.may_hibernate) or instance.id in self._busy:
            return 0.0
        if any(has_work(instance.id) for has_work in self.standing_work):
            return 0.0
        return self.residency.idle_s(instance)

    async def hibernate(self, stale: Instance) -> bool:
        """Frees a running instance's memory; False if it is in use or has work of its own.

        Raises EngineUnavailable.
        """
        # The lock's holder may itself wait for memory.
        if self.agents.is_held(stale.id) or not self.idle_s(stale):
            return False
        async with self.agents.holding(stale) as agent:
            if not self.idle_s(agent.row):
                return False
            if (await agent.inspect()).state is not SandboxState.RUNNING:
                # Perhaps it has died, which is not for this to repair.
                return False
            former = agent.row
            try:
                reason, jobs = await self._find_work(agent)
                if reason is None:
                    # Somebody has to know when to bring it back.
                    await self.due_jobs.note(former, jobs)
                # From here on, each use waits for the lock and looks at the row again.
                is_leaving = reason is None and self.residency.begin_leaving(former.id)
                has_left = is_leaving and await self._leave(agent)
            except (GatewayUnavailable, RpcRefused) as problem:
                reason, has_left = str(problem), False
            if not has_left:
                self.residency.end_leaving(former)
                self._busy[former.id] = reason or "in use"
                log.debug("instance %s: does not hibernate: %s", former.id, reason)
        return has_left

    async def _find_work(self, agent: Agent) -> StandingWork:
        if not await self.allows(HIBERNATION, agent.row.openclaw_version):
            return StandingWork("its own work cannot be told from that of this OpenClaw")
        work = await find_standing_work(agent.gateway)
        if work.reason is not None:
            return work
        if self.due_jobs.is_due_soon(agent.row, work.jobs):
            return StandingWork("it has a job that is due soon")
        commands = await self.agents.engine.processes(agent.row.sandbox_id)
        return StandingWork("it runs other programs") if has_foreign_process(commands) else work

    async def _leave(self, agent: Agent) -> bool:
        # Without a drain, a turn or tool in progress refuses it.
        suspension = await agent.gateway.suspend(agent.row.sandbox_id, drains=False)
        if not suspension.is_drained:
            return False
        # The row first: if the server dies before the release, the reconciler makes it.
        if not await agent.hibernate():
            return False
        await agent.release()
        log.info("instance %s: hibernated", agent.row.id)
        return True
