"""Bringing back the instances of a machine that is away, on another one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.events import EventType
from chowder_local.core.tasks import contained, every

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.core.domain import SandboxId
    from chowder_local.core.events import Events
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.snapshots.restores import Restores
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.store.conversation_histories import ConversationHistoryQueries
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.sessions import SessionQueries

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 5.0
NAMES_MAX = 20
"""So many sessions are named in an event."""
AWAY_S = 60.0
"""A machine that is cut off freezes its agents after 20 seconds, so no agent runs twice."""


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
        await every(LOOK_INTERVAL_S, "recovering instances", self.recover)

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
                with contained(f"sandbox {sandbox_id}: recovery"):
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
