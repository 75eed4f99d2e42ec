"""The jobs of agents that are copied: two agents would do the work of one twice."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import RpcRefused
from chowder_local.openclaw.jobs import JobKind, carried_params
from chowder_local.openclaw.sandbox_exec import Program
from chowder_local.openclaw.scheduler import list_jobs

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.instances.lifecycle.agents import Agents
    from chowder_local.instances.schedule.due_jobs import DueJobs
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.jobs import Job
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
        """The parameters by which each job of an agent can be made again, as in its original.

        Raises GatewayUnavailable, EngineUnavailable, SandboxMissing.
        """
        async with self.agents.holding(stale) as agent:
            switched_off = agent.row.switched_off_jobs
            processes = self.in_sandbox if agent.row.is_in_memory else self.on_volume
            answer = await Program(processes, "jobs.py").ask(
                agent.row.sandbox_id,
                {"op": "jobs", "state_dir": self.state_dir},
                timeout_s=TIMEOUT_S,
                timeout_message="the agent's jobs cannot be read in time",
            )
        if problem := untrusted_json.message_of(answer.get("problem")):
            log.warning("instance %s: exported without its jobs: %s", stale.id, problem)
        listed = untrusted_json.objects_of(answer.get("jobs"))
        for each in listed:
            # An import is off, too, unless its jobs shall run.
            each["enabled"] = each.get("enabled") is True or each.get("id") in switched_off
        return [carried_params(each) for each in listed]

    async def settle(self, instance: Instance, gateway: Gateway, *, is_booted: bool) -> None:
        """Switches the jobs of a fork off, unless they shall run, and makes those of an import.

        Of a fork whose original is a copy itself, those that shall run may be off because of that.
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
        switched_off = set(instance.switched_off_jobs)
        if snapshot.instance_id != instance.id:
            listed = (await list_jobs(gateway)).values()
            jobs = [each for each in listed if each.kind is JobKind.USER]
            if not stays_on:
                switched_off |= {each.id for each in jobs if each.is_enabled}
                # First, because after a crash of the server they are off.
                await self._remember(instance, switched_off)
            for job in jobs:
                if job.id in switched_off and job.is_enabled is not stays_on:
                    await _switch(gateway, job, is_on=stays_on)
        for params in imported:
            was_on = params.get("enabled") is True
            try:
                added = await gateway.call("cron.add", {**params, "enabled": stays_on and was_on})
            except RpcRefused as refused:
                # It may name a channel that is not there, or a time that has passed.
                log.warning("instance %s: a job is not imported: %s", instance.id, refused)
            else:
                if was_on and not stays_on:
                    switched_off.add(untrusted_json.text_of(added.get("id")))
        await self._remember(instance, switched_off)
        await gateway.revise_config(_end_pause)
        await self.due_jobs.note(instance, [*(await list_jobs(gateway)).values()])

    async def _remember(self, instance: Instance, switched_off: set[str]) -> None:
        if switched_off != instance.switched_off_jobs:
            await self.agents.instances.change(
                instance.id, now=self.agents.clock(), switched_off_jobs=switched_off
            )


async def _switch(gateway: Gateway, job: Job, *, is_on: bool) -> None:
    try:
        await gateway.call("cron.update", {"id": job.id, "patch": {"enabled": is_on}})
    except RpcRefused as refused:
        if not is_on:
            raise
        # Its time may have passed.
        log.warning("the job %s stays off: %s", job.id, refused)


def _end_pause(config: Any) -> dict[str, Any] | None:
    """Ends what `Snapshots.source` does, so that no job runs before it is switched off."""
    is_off = untrusted_json.object_at(config, "cron").get("enabled") is False
    return {"cron": {"enabled": None}} if is_off else None
