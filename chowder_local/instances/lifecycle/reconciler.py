"""Reconciling the store with the engine: after a crash, a reboot or a manual `docker rm`."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.domain import InstanceStatus, SandboxInfo, SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.events import EventType
from chowder_local.core.tasks import contained, every

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime

    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.core.events import Events
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.eviction import Eviction
    from chowder_local.instances.lifecycle.healing import Healing
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries

log = logging.getLogger(__name__)

ROUNDS_PER_VOLUME_LISTING = 60
"""Volumes are listed so rarely because there may be thousands, of stopped instances."""
LINK_INTERVAL_S = 0.5
"""How often a round looks whether another machine is linked."""


@dataclass(eq=False, repr=False, kw_only=True)
class Reconciler:
    """Compares rows with sandboxes, and heals the instances for which they disagree."""

    instances: InstanceQueries
    warm_queries: WarmSandboxQueries
    engine: Engine
    healing: Healing
    eviction: Eviction
    snapshots: Snapshots
    events: Events
    interval_s: float
    paused_ttl_s: float
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._rounds = 0
        self._linked: set[str] = set()
        self._due_s = time.monotonic() + self.interval_s
        self.engine_problem: str | None = None
        """Why the engine did not answer the last time; None if it did."""

    async def run(self) -> None:
        """Reconciles at intervals, and whenever a machine is linked, until cancelled."""
        await every(min(LINK_INTERVAL_S, self.interval_s), "reconciling", self._reconcile_if_due)

    async def _reconcile_if_due(self) -> None:
        # A machine that was cut off has frozen its agents.
        if time.monotonic() >= self._due_s or not self._linked_nodes() <= self._linked:
            try:
                await self.reconcile()
            finally:
                self._due_s = time.monotonic() + self.interval_s

    def _linked_nodes(self) -> set[str]:
        return {node.name for node in self.engine.nodes() if node.is_linked}

    async def reconcile(self) -> None:
        """One round over all instances and sandboxes of this server."""
        linked = self._linked_nodes()
        # A machine that is back may have files of agents that have come back elsewhere.
        is_volume_round = self._rounds % ROUNDS_PER_VOLUME_LISTING == 0 or linked != self._linked
        self._linked = linked
        try:
            # The engine first: a row is written before its sandbox is created, so a sandbox that
            # is listed here and has no row afterwards is an orphan.
            sandboxes = await self.engine.sandboxes()
            volumes = await self.engine.volumes() if is_volume_round else set()
        except EngineUnavailable as unavailable:
            self._set_engine_problem(str(unavailable))
            raise
        self._rounds += 1
        self._set_engine_problem(None)
        # Warm ones before instances: one that is claimed in between is seen as both, not neither.
        warm = await self.warm_queries.ids()
        owners = await self.instances.owners(sandboxes)
        owned = {each.sandbox_id for each in owners} | await self.instances.owned(volumes)
        rows = {
            each.id: each for each in [*owners, *await self.instances.running_or_provisioning()]
        }
        for instance in rows.values():
            sandbox = sandboxes.get(instance.sandbox_id)
            with logs.for_instance(instance.id), _isolated(instance.sandbox_id):
                if self.healing.is_due(instance, sandbox):
                    await self.healing.heal(instance)
                elif self._is_eviction_due(instance, sandbox):
                    await self.eviction.release(instance)
        with contained("removing unneeded snapshots"):
            await self.snapshots.clear_unneeded()
        for sandbox_id in (sandboxes.keys() | volumes) - warm - owned:
            log.info("removing sandbox %s, which belongs to no instance", sandbox_id)
            # If the removal fails, the next round lists the volumes again.
            rounds, self._rounds = self._rounds, 0
            with _isolated(sandbox_id):
                await self.engine.remove(sandbox_id)
                self._rounds = rounds
                self.events.publish(EventType.SANDBOX_REMOVED, sandbox_id=sandbox_id)
        self.healing.forget_old_deaths()

    def _is_eviction_due(self, instance: Instance, sandbox: SandboxInfo | None) -> bool:
        if instance.status is not InstanceStatus.STOPPED or sandbox is None:
            return False
        stopped_s = (self.clock() - instance.updated_at).total_seconds()
        return sandbox.state is SandboxState.PAUSED and stopped_s >= self.paused_ttl_s

    def _set_engine_problem(self, problem: str | None) -> None:
        if problem != self.engine_problem:
            log.warning("engine: %s", problem or "answers again")
            is_new = (problem is None) is not (self.engine_problem is None)
            if is_new:
                lost, back = EventType.ENGINE_LOST, EventType.ENGINE_BACK
                self.events.publish(back if problem is None else lost)
            if problem is None:
                # What went down with the engine has not died. Failed removals are tried again.
                self.healing.forget_deaths()
                self._rounds = 0
        self.engine_problem = problem


def _isolated(sandbox_id: SandboxId) -> AbstractContextManager[None]:
    """Logs a failure with one sandbox, so that the round goes on with the others."""
    return contained(f"sandbox {sandbox_id}: reconciling")
