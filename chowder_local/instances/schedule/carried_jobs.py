"""The jobs of agents that are copied: two agents would do the work of one twice."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import RpcRefused
from chowder_local.openclaw.jobs import JobKind, carried_params, read_jobs
from chowder_local.openclaw.sandbox_exec import Program

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.instances.lifecycle.agents import Agents
    from chowder_local.instances.schedule.due_jobs import DueJobs
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.sandbox_exec import Processes
    from chowder_local.store.snapshots import SnapshotQueries

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0


@dataclass(eq=False, repr=False, kw_only=True)
class CarriedJobs:
    """Reads jobs for an export, and settles those of a new instance before it is `running`."""

    agents: Agents
    due_jobs: DueJobs
    snapshots: SnapshotQueries
    in_sandbox: Processes
    on_volume: Processes
    state_dir: str
    staying_on: set[InstanceId] = field(default_factory=set)
    """New instances whose jobs shall run. After a crash of the server, they are off."""

    async def read(self, stale: Instance) -> list[dict[str, Any]]:
        """The parameters by which each job of an agent can be made again.

        Raises GatewayUnavailable, EngineUnavailable, SandboxMissing.
        """
        async with self.agents.holding(stale) as agent:
            processes = self.in_sandbox if agent.row.is_in_memory else self.on_volume
            answer = await Program(processes, "jobs.py").ask(
                agent.row.sandbox_id,
                {"op": "jobs", "state_dir": self.state_dir},
                timeout_s=TIMEOUT_S,
                timeout_message="the agent's jobs cannot be read in time",
            )
        if problem := untrusted_json.message_of(answer.get("problem")):
            log.warning("instance %s: exported without its jobs: %s", stale.id, problem)
        return [carried_params(each) for each in untrusted_json.objects_of(answer.get("jobs"))]

    async def settle(self, instance: Instance, gateway: Gateway, *, is_booted: bool) -> None:
        """Switches the jobs of a fork off, unless they shall run, and makes those of an import.

        A home with jobs is always booted. Raises GatewayUnavailable, ConfigRefused.
        """
        if instance.first_ready_at is not None or instance.origin_snapshot_id is None:
            return
        snapshot = await self.snapshots.get(instance.origin_snapshot_id)
        stays_on = instance.id in self.staying_on
        self.staying_on.discard(instance.id)
        if snapshot is None:
            return
        imported = untrusted_json.objects_of(snapshot.content.get("jobs"))
        if not (is_booted or imported):
            return
        is_fork = snapshot.instance_id != instance.id
        for job in read_jobs(await gateway.call("cron.list", {})) if is_fork else ():
            if job.kind is JobKind.USER and not stays_on:
                await gateway.call("cron.update", {"id": job.id, "patch": {"enabled": False}})
        for params in imported:
            is_enabled = stays_on and params.get("enabled") is True
            try:
                await gateway.call("cron.add", {**params, "enabled": is_enabled})
            except RpcRefused as refused:
                # It may name a channel that is not there, or a time that has passed.
                log.warning("instance %s: a job is not imported: %s", instance.id, refused)
        await gateway.revise_config(_switch_on)
        listed = read_jobs(await gateway.call("cron.list", {"includeDisabled": True}))
        await self.due_jobs.note(instance, listed)


def _switch_on(config: Any) -> dict[str, Any] | None:
    """Ends what `Snapshots.source` does, so that no job runs before it is switched off."""
    is_off = untrusted_json.object_at(config, "cron").get("enabled") is False
    return {"cron": {"enabled": None}} if is_off else None
