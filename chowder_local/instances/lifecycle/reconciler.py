"""Reconciling rows with sandboxes after a crash or a manual `docker rm`, and healing instances."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.domain import InstanceStatus, SandboxInfo, SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.events import EventType
from chowder_local.core.tasks import logging_errors, run_every
from chowder_local.instances.lifecycle.boots import out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId, SandboxId
    from chowder_local.instances.lifecycle.agents import Agent, Agents
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries

log = logging.getLogger(__name__)

DEATHS_ALLOWED = 3
"""After each of so many deaths the sandbox is booted again; one more is an error."""
DEATHS_WINDOW_S = 300.0
CHECKS = 5
CHECK_INTERVAL_S = 0.1
RECONCILE_INTERVAL_S = 5.0
ROUNDS_PER_VOLUME_LISTING = 60
"""Volumes are listed so rarely because there may be thousands, of stopped instances."""
NODE_INTERVAL_S = 0.5
"""How often a round looks whether another machine is linked or drained."""
DRAIN_S = 15.0
"""For how long rounds come that often after a drain: a sandbox has ten seconds to end there."""


@dataclass(eq=False, repr=False, kw_only=True)
class Reconciler:
    """Compares rows with sandboxes, and heals the instances for which they disagree."""

    warm_queries: WarmSandboxQueries
    healing: Healing
    agents: Agents
    snapshots: Snapshots
    interval_s: float
    release_stopped_after_s: float
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._rounds = 0
        self._linked: set[str] = set()
        self._drained: set[str] = set()
        self._drain_ends_s = -math.inf
        self._due_s = time.monotonic() + self.interval_s
        self.engine_problem: str | None = None
        """Why the engine did not answer the last time; None if it did."""

    async def run(self) -> None:
        """Reconciles at intervals, when a machine is linked and during drains, until cancelled."""
        await run_every(
            min(NODE_INTERVAL_S, self.interval_s), "reconciling", self._reconcile_if_due
        )

    async def _reconcile_if_due(self) -> None:
        now_s = time.monotonic()
        drained = {node.name for node in self.agents.engine.nodes() if node.is_drained}
        if not drained <= self._drained:
            self._drain_ends_s = now_s + DRAIN_S
        self._drained = drained
        is_draining = now_s < self._drain_ends_s
        # A machine that was cut off has frozen its agents.
        if is_draining or now_s >= self._due_s or not self._linked_nodes() <= self._linked:
            try:
                await self.reconcile()
            finally:
                self._due_s = time.monotonic() + self.interval_s

    def _linked_nodes(self) -> set[str]:
        return {node.name for node in self.agents.engine.nodes() if node.is_linked}

    async def reconcile(self) -> None:
        """One round over all instances and sandboxes of this server."""
        linked = self._linked_nodes()
        # A machine that is back may have files of agents that have come back elsewhere.
        is_volume_round = self._rounds % ROUNDS_PER_VOLUME_LISTING == 0 or linked != self._linked
        self._linked = linked
        try:
            # The engine first: a row is written before its sandbox is created, so a sandbox that
            # is listed here and has no row afterwards is an orphan.
            sandboxes = await self.agents.engine.sandboxes()
            volumes = await self.agents.engine.volumes() if is_volume_round else set()
        except EngineUnavailable as unavailable:
            self._set_engine_problem(str(unavailable))
            raise
        self._rounds += 1
        self._set_engine_problem(None)
        # Warm ones before instances: one that is claimed in between is seen as both, not neither.
        warm = await self.warm_queries.ids()
        owners = await self.agents.instances.owners(sandboxes)
        owned = {each.sandbox_id for each in owners} | await self.agents.instances.owned(volumes)
        # And after them, since an instance may leave its sandbox to others.
        warm |= await self.warm_queries.ids()
        rows = {
            each.id: each
            for each in [*owners, *await self.agents.instances.running_or_provisioning()]
        }
        for instance in rows.values():
            sandbox = sandboxes.get(instance.sandbox_id)
            with logs.for_instance(instance.id), _isolated(instance.sandbox_id):
                if self.healing.is_due(instance, sandbox):
                    await self.healing.heal(instance)
                elif self._is_eviction_due(instance, sandbox):
                    await self.agents.evict(instance)
        with logging_errors("removing unneeded snapshots"):
            await self.snapshots.clear_unneeded()
        for sandbox_id in (sandboxes.keys() | volumes) - warm - owned:
            log.info("removing sandbox %s, which belongs to no instance", sandbox_id)
            # If the removal fails, the next round lists the volumes again.
            rounds, self._rounds = self._rounds, 0
            with _isolated(sandbox_id):
                await self.agents.engine.remove(sandbox_id)
                self._rounds = rounds
                self.agents.events.publish(EventType.SANDBOX_REMOVED, sandbox_id=sandbox_id)
        self.healing.forget_old_deaths()

    def _is_eviction_due(self, instance: Instance, sandbox: SandboxInfo | None) -> bool:
        if instance.status is not InstanceStatus.STOPPED or sandbox is None:
            return False
        stopped_s = (self.clock() - instance.updated_at).total_seconds()
        return sandbox.state is SandboxState.PAUSED and stopped_s >= self.release_stopped_after_s

    def _set_engine_problem(self, problem: str | None) -> None:
        if problem != self.engine_problem:
            log.warning("engine: %s", problem or "answers again")
            is_new = (problem is None) is not (self.engine_problem is None)
            if is_new:
                lost, back = EventType.ENGINE_LOST, EventType.ENGINE_BACK
                self.agents.events.publish(back if problem is None else lost)
            if problem is None:
                # What went down with the engine has not died. Failed removals are tried again.
                self.healing.forget_deaths()
                self._rounds = 0
        self.engine_problem = problem


@dataclass(eq=False, repr=False, kw_only=True)
class Healing:
    """Repairs an instance's sandbox to match its row, or its row to match its sandbox."""

    agents: Agents
    provisioner: Provisioner
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
        async with self.agents.holding(instance) as agent:
            if agent.row.is_in_memory and not self.provisioner.is_in_progress(instance.id):
                log.warning("instance %s: does not recover, is booted again", instance.id)
                await self._boot_again(agent)

    async def heal(self, stale: Instance) -> bool:
        """Whether a repair was made, or is in progress. Raises EngineUnavailable."""
        if self.provisioner.is_in_progress(stale.id):
            return True
        async with self.agents.holding(stale) as agent:
            if self.provisioner.is_in_progress(stale.id):
                return True
            instance, sandbox = agent.row, await agent.inspect()
            if not self.is_needed(instance, sandbox):
                return False
            log.info("instance %s is %s, its sandbox %s", stale.id, instance.status, sandbox.state)
            await self._repair(agent, sandbox)
            self.agents.events.publish(
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
        return self.is_needed(instance, sandbox) and not self.agents.is_held(instance.id)

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
        return sandbox is not None and not self.agents.egress.fits(instance, sandbox)

    async def _repair(self, agent: Agent, sandbox: SandboxInfo) -> None:
        instance = agent.row
        if instance.status is InstanceStatus.PROVISIONING:
            self.provisioner.begin(instance)
        elif instance.status is InstanceStatus.STOPPED:
            await self.agents.engine.pause(instance.sandbox_id)
        elif instance.status is InstanceStatus.ERROR or instance.is_hibernated:
            # It takes no messages, or is brought back by the next one: it needs no boot.
            await agent.release()
        elif not self.agents.egress.fits(instance, sandbox):
            await self._boot_again(agent)
        elif sandbox.state is SandboxState.PAUSED:
            await self.agents.engine.unpause(instance.sandbox_id)
        elif sandbox.state is SandboxState.RUNNING and sandbox.gateway_url is not None:
            await agent.update(gateway_url=sandbox.gateway_url)
        else:
            await self._revive(agent, sandbox)

    async def _revive(self, agent: Agent, sandbox: SandboxInfo) -> None:
        # If the sandbox is gone or was signalled by the engine, the agent did not end it
        # itself, so this is no death.
        has_died = sandbox.state in {SandboxState.EXITED, SandboxState.CREATED}
        has_died = has_died and (sandbox.is_oom_killed or not sandbox.is_signalled)
        if not has_died or not self._dies_too_often(agent.row):
            await self._boot_again(agent)
            return
        what = out_of_memory(sandbox) if sandbox.is_oom_killed else f"is {sandbox.state}"
        await agent.to_error(
            f"The sandbox {what} and has died {DEATHS_ALLOWED + 1} times within "
            f"{DEATHS_WINDOW_S:g} s. Its files are kept; see its log with: "
            f"chowder-local logs {agent.row.id}",
        )

    async def _boot_again(self, agent: Agent) -> None:
        if await agent.to_provisioning():
            self.provisioner.begin(agent.row)

    def _dies_too_often(self, instance: Instance) -> bool:
        deaths, now = self._deaths[instance.id], self.clock()
        is_too_often = (
            len(deaths) == DEATHS_ALLOWED and (now - deaths[0]).total_seconds() < DEATHS_WINDOW_S
        )
        deaths.append(now)
        return is_too_often


def _isolated(sandbox_id: SandboxId) -> AbstractContextManager[None]:
    """Logs a failure with one sandbox, so that the round goes on with the others."""
    return logging_errors(f"sandbox {sandbox_id}: reconciling")
