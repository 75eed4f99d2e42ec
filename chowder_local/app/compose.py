"""The composition of a server: the services of its handlers, and its background tasks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from chowder_local.app.agents import Agents
from chowder_local.core.program_name import program
from chowder_local.core.tasks import contained
from chowder_local.dashboard.assets import Assets
from chowder_local.dashboard.chat_stream import ChatStreams
from chowder_local.dashboard.rendering import Rendering
from chowder_local.dashboard.services import Dashboard
from chowder_local.diagnostics.server import ServerDiagnosis
from chowder_local.instances.monitoring.disk_quota import DiskWatch
from chowder_local.mcp.requests import McpRequests
from chowder_local.mcp.services import McpServices

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from chowder_local.engine.engine_facts import EngineFacts


@dataclass(frozen=True, kw_only=True)
class Composition(Agents):
    """All parts of a server. Tests compose it with other constructor arguments."""

    engine_facts: Callable[[], Awaitable[EngineFacts]]

    @cached_property
    def server_diagnosis(self) -> ServerDiagnosis:
        return ServerDiagnosis(self.settings, self.health, self.engine_facts)

    @cached_property
    def dashboard(self) -> Dashboard:
        return Dashboard(
            dashboard_sessions=self.dashboard_sessions,
            usage_samples=self.usage_samples,
            server_diagnosis=self.server_diagnosis,
            assets=_assets(),
            rendering=_rendering(),
            chat_streams=ChatStreams(),
            base_url=f"{self.settings.client_url}/v1",
            env_command=f'eval "$({program(self.settings.data_dir)} env)"',
        )

    @cached_property
    def services(self) -> McpServices:
        return McpServices(
            organizations=self.organizations,
            authentication=self.authentication,
            keys=self.scoped_keys,
            subscriptions=self.subscriptions,
            cost_reports=self.cost_reports,
            directory=self.directory,
            creation=self.creation,
            lifecycle=self.lifecycle,
            reconfiguration=self.reconfiguration,
            egress=self.egress,
            snapshots=self.snapshots,
            forks=self.forks,
            restores=self.restores,
            exports=self.exports,
            upgrades=self.upgrades,
            upgrade_checks=self.upgrade_checks,
            provisioner=self.provisioner,
            boot_queue=self.boot_queue,
            conversations=self.conversations,
            idempotency=self.idempotency,
            conversation_reader=self.conversation_reader,
            files=self.files,
            skills=self.skills,
            channels=self.channels,
            config_editing=self.config_editing,
            engine=self.engine,
            in_memory=self.in_memory,
            health=self.health,
            scripts=self.scripts,
            recordings=self.recordings,
            exchanges=self.call_log,
            traces=self.traces,
            session_names=self.session_names,
            events=self.events,
            faults=self.faults,
            organization_reset=self.organization_reset,
            metrics=self.metrics,
            dashboard=self.dashboard,
            mcp=McpRequests(self.tasks, self.server_diagnosis, self.settings.max_body_bytes),
            box=self.box,
            shutdown=self.shutdown,
            max_body_bytes=self.settings.max_body_bytes,
        )

    async def begin(self) -> None:
        """Reconciles the store with the engine, and starts the background tasks."""
        # Before the first request, so that no list shows what a crash left behind.
        await self.reconciler.reconcile()
        loops: dict[str, Callable[[], Coroutine[None, None, None]]] = {
            "resuming": self._resume,
            "reconciler": self.reconciler.run,
            "warm pool": self.pool.run,
            "hibernation": self.hibernation.run,
            "use of keys": self.keys.uses.run,
            "use of sessions": self.sessions.uses.run,
            "usage": self.usage.run,
            "histories": self.histories.run,
            "usage samples": self.usage_samples.run,
            "idempotency": self.idempotency.run,
        }
        if self.settings.snapshot_interval_s:
            loops["snapshots at intervals"] = self.interval_snapshots.run
            loops["recovery"] = self.recovery.run
        if self.settings.disk_limit_mb is not None:
            loops["disk quota"] = self._disk_watch(self.settings.disk_limit_mb).run
        for name, run in loops.items():
            self.tasks.create_task(run(), name=name)

    async def _resume(self) -> None:
        with contained("resuming"):
            await self.sandbox_control.resume_all()

    async def write_back(self) -> None:
        """Writes buffered rows before the database is closed."""
        for queries in (self.keys.uses, self.sessions.uses, self.usage, self.histories):
            await queries.write()

    def _disk_watch(self, limit_mb: int) -> DiskWatch:
        return DiskWatch(
            instances=self.instances,
            transitions=self.transitions,
            engine=self.engine,
            locks=self.locks,
            limit_mb=limit_mb,
            interval_s=self.settings.disk_interval_s,
        )


@cache
def _assets() -> Assets:
    return Assets()


@cache
def _rendering() -> Rendering:
    """Shared by all servers of a process, because it has no state."""
    return Rendering(_assets())
