"""Snapshots at intervals, from which the instances of a machine that is away come back."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.domain import INTERVAL_SNAPSHOT_NAME, InstanceStatus, SandboxState
from chowder_local.core.events import EventType
from chowder_local.core.tasks import logging_errors, run_every

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.core.domain import Instance, SandboxId, Snapshot
    from chowder_local.core.events import Events
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.residency import Residency
    from chowder_local.instances.snapshots.forks import Restores
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.store.conversation_histories import ConversationHistoryQueries
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.sessions import SessionQueries

log = logging.getLogger(__name__)

DUE_INTERVAL_S = 10.0
LOOK_INTERVAL_S = 5.0
NAMES_MAX = 20
"""So many sessions are named in an event."""
AWAY_S = 60.0
"""A machine that is cut off freezes its agents after 20 seconds, so no agent runs twice."""


@dataclass(eq=False, repr=False, kw_only=True)
class IntervalSnapshots:
    """Keeps one snapshot of each running instance that is at most about an interval old."""

    instances: InstanceQueries
    snapshots: Snapshots
    histories: ConversationHistoryQueries
    residency: Residency
    interval_s: float
    clock: Callable[[], datetime]

    async def run(self) -> None:
        """Takes what is due, until cancelled."""
        pause_s = min(DUE_INTERVAL_S, self.interval_s)
        await run_every(pause_s, "taking snapshots at intervals", self.take_due)

    async def take_due(self) -> None:
        """Takes each snapshot that is due, and removes the one that it replaces."""
        for instance in await self.instances.running_or_provisioning():
            if instance.status is not InstanceStatus.RUNNING:
                continue
            with (
                logs.for_instance(instance.id),
                logging_errors(f"instance {instance.id}: its snapshot at an interval"),
            ):
                former = [
                    each
                    for each in await self.snapshots.of_instance(instance.id)
                    if each.name == INTERVAL_SNAPSHOT_NAME
                ]
                if self._is_due(instance, former):
                    taken = await self.snapshots.take(instance, INTERVAL_SNAPSHOT_NAME)
                    await self.histories.forget_unsaved(instance.id, taken.frozen_at)
                    for each in former:
                        await self.snapshots.remove(instance.organization_id, each.id)

    def _is_due(self, instance: Instance, former: list[Snapshot]) -> bool:
        if not former:
            return True
        taken_at = former[-1].created_at
        if not instance.is_in_memory and instance.updated_at <= taken_at:
            return False
        age_s = (self.clock() - taken_at).total_seconds()
        # A copy does not delay an answer, but an agent that is always in use is copied, too.
        is_put_off = self.residency.is_used(instance.id) and age_s < 2 * self.interval_s
        return age_s >= self.interval_s and not is_put_off


@dataclass(eq=False, repr=False, kw_only=True)
class Recovery:
    """Restores running instances from their latest snapshots, once their machine is away."""

    instances: InstanceQueries
    engine: Engine
    snapshots: Snapshots
    restores: Restores
    histories: ConversationHistoryQueries
    sessions: SessionQueries
    events: Events
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._away_since: dict[SandboxId, datetime] = {}

    async def run(self) -> None:
        """Looks for sandboxes whose machine is away, until cancelled."""
        await run_every(LOOK_INTERVAL_S, "recovering instances", self.recover)

    async def recover(self) -> None:
        """Restores each running instance whose machine was away for long enough.

        What the machine has of it is removed once it is back, as it belongs to no instance then.
        """
        if not self.engine.nodes():
            return
        now = self.clock()
        self._away_since = {
            sandbox_id: self._away_since.get(sandbox_id, now)
            for sandbox_id, info in (await self.engine.sandboxes()).items()
            if info.state is SandboxState.UNREACHABLE
        }
        for sandbox_id, since in self._away_since.items():
            if (now - since).total_seconds() >= AWAY_S:
                with logging_errors(f"sandbox {sandbox_id}: recovery"):
                    await self._restore(sandbox_id)

    async def _restore(self, sandbox_id: SandboxId) -> None:
        instance = await self.instances.by_sandbox(sandbox_id)
        if instance is None or instance.status is not InstanceStatus.RUNNING:
            return
        with logs.for_instance(instance.id):
            if not (snapshots := await self.snapshots.of_instance(instance.id)):
                return
            latest = snapshots[-1]
            node = self.engine.node_of(sandbox_id)
            lost = await self.histories.lose_unsaved(instance.id, latest.frozen_at)
            named = await self.sessions.of_instance(instance.id)
            log.warning(
                "instance %s: its machine %s is away; restored as of %s, without %d messages",
                instance.id,
                node,
                latest.frozen_at,
                lost.total(),
            )
            await self.restores.restore(
                instance.organization_id, instance, latest.id, keeps_turns=True
            )
            self.events.publish(
                EventType.INSTANCE_RECOVERED,
                instance.organization_id,
                instance.id,
                snapshot_id=latest.id,
                node=node,
                copied_at=latest.frozen_at.isoformat(),
                messages=lost.total(),
                sessions=[each.name for each in named if each.session_key in lost][:NAMES_MAX],
            )
