"""The scheduled jobs of agents, and their runs."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused
from chowder_local.features.jobs.errors import JobNotFound, JobRefused
from chowder_local.openclaw import jobs
from chowder_local.openclaw.jobs import JobKind
from chowder_local.openclaw.session_keys import session_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from chowder_local.core.domain import Instance
    from chowder_local.instances.conversations.models import ModelResolver
    from chowder_local.instances.conversations.sessions import SessionNames
    from chowder_local.instances.conversations.trace_log import TraceLog
    from chowder_local.instances.lifecycle.residency import Residency
    from chowder_local.instances.schedule.agent_times import AgentTimes
    from chowder_local.instances.schedule.due_jobs import DueJobs
    from chowder_local.openclaw.gateway import Gateway, GatewayOf
    from chowder_local.openclaw.jobs import Job, JobDefinition, JobRun
    from chowder_local.openclaw.sandbox_exec import Control
    from chowder_local.relay.call_log import CallLog, ModelCall

log = logging.getLogger(__name__)

_HEARTBEAT = (
    "Heartbeats are a setting of the agent: change agents.defaults.heartbeat.every of its "
    'openclaw_config to a time such as "30m", or to "0m" for none.'
)
MAX_RUNS = 200
"""OpenClaw's limit for a page of runs."""
SLACK = timedelta(milliseconds=500)
"""The clocks of server and agent are the same, but are read at different moments."""


@dataclass(frozen=True)
class TracedRun:
    """A run with what the server knows of it."""

    run: JobRun
    calls: Sequence[ModelCall]
    trace_id: str | None


@dataclass(eq=False, repr=False, kw_only=True)
class Jobs:
    """Reads and changes the jobs of running agents.

    Besides what each method names, all raise InstanceStateWrong if the instance does not run,
    GatewayUnavailable, and what brings a hibernated agent back raises.
    """

    residency: Residency
    gateway_of: GatewayOf
    control: Control
    models: ModelResolver
    session_names: SessionNames
    call_log: CallLog
    traces: TraceLog
    due_jobs: DueJobs
    times: AgentTimes

    async def all(self, instance: Instance) -> list[Job]:
        """All jobs of the agent: OpenClaw's own, too."""
        async with self._gateway(instance) as gateway:
            return await self._read(instance, gateway)

    async def get(self, instance: Instance, job_id: str) -> Job:
        """Raises JobNotFound."""
        async with self._gateway(instance) as gateway:
            return await _get(gateway, job_id)

    async def create(
        self,
        instance: Instance,
        job: JobDefinition,
        *,
        session: str | None = None,
        model: str | None = None,
        openclaw: Mapping[str, Any],
    ) -> Job:
        """A new job, in the named session, with a client's id of a model.

        Raises JobRefused with OpenClaw's message, and what `ModelResolver.resolve` raises.
        """
        async with self._gateway(instance) as gateway:
            job = replace(
                job,
                session_key=await self._session(instance, session),
                openclaw_model=await self._model(instance, gateway, model),
            )
            raw = await _call(gateway, "cron.add", jobs.add_params(job, openclaw))
            created = jobs.read_job(raw)
            await self._read(instance, gateway)
        return created

    async def change(
        self, instance: Instance, job_id: str, change: dict[str, Any], openclaw: Mapping[str, Any]
    ) -> Job:
        """The job with other values for fields of JobDefinition, or `session` and `model`.

        Raises JobNotFound, and what `create` raises.
        """
        async with self._gateway(instance) as gateway:
            if "session" in change:
                change["session_key"] = await self._session(instance, change.pop("session"))
            if "model" in change:
                model = change.pop("model")
                change["openclaw_model"] = await self._model(instance, gateway, model)
            job = await _get(gateway, job_id)
            if job.kind is JobKind.HEARTBEAT:
                raise JobRefused(_HEARTBEAT)
            patch = jobs.update_patch(job, change, openclaw)
            raw = await _call(gateway, "cron.update", {"id": job_id, "patch": patch})
            await self._read(instance, gateway)
        return jobs.read_job(raw)

    async def delete(self, instance: Instance, job_id: str) -> None:
        """Raises JobNotFound."""
        async with self._gateway(instance) as gateway:
            await _get(gateway, job_id)
            try:
                await _call(gateway, "cron.remove", {"id": job_id})
            except GatewayUnavailable as failure:
                # OpenClaw fails, too, if it has removed the job, but not the job's session.
                try:
                    await _get(gateway, job_id)
                except JobNotFound:
                    log.warning("instance %s: job %s is deleted: %s", instance.id, job_id, failure)
                else:
                    raise
        self.due_jobs.look_again(instance.id)

    async def run(self, instance: Instance, job_id: str) -> None:
        """Begins a run now, whether it is due or not.

        A forced run passes OpenClaw's scheduler by. Raises JobNotFound.
        """
        async with self._gateway(instance) as gateway:
            await _get(gateway, job_id)
            # Over HTTP it is refused: OpenClaw ends the rights of a request with its answer.
            await self.control.call(
                instance.sandbox_id, "cron.run", {"id": job_id, "mode": "force"}
            )
            await self._read(instance, gateway)

    async def runs(self, instance: Instance, job_id: str, limit: int) -> list[TracedRun]:
        """The latest runs of a job that have ended, latest first, also of one that is gone.

        Raises JobNotFound if there is neither such a job nor a run of it.
        """
        async with self._gateway(instance) as gateway:
            answer = await _call(gateway, "cron.runs", {"id": job_id, "limit": limit})
            runs = jobs.read_runs(answer)
            if not runs:
                # OpenClaw lists those of a job that it has deleted only among all.
                answer = await _call(gateway, "cron.runs", {"scope": "all", "limit": MAX_RUNS})
                runs = [each for each in jobs.read_runs(answer) if each.job_id == job_id]
                if not runs:
                    await _get(gateway, job_id)
        return [self._traced(instance, each) for each in runs[:limit]]

    async def overview(self, instance: Instance, limit: int) -> tuple[list[Job], list[TracedRun]]:
        """All jobs, and the latest runs of any of them."""
        async with self._gateway(instance) as gateway:
            listed = await self._read(instance, gateway)
            answer = await _call(gateway, "cron.runs", {"scope": "all", "limit": limit})
        return listed, [self._traced(instance, each) for each in jobs.read_runs(answer)]

    async def wake(self, instance: Instance, text: str) -> None:
        """Wakes the agent, which takes the text up in its main session as in a heartbeat."""
        async with self._gateway(instance):
            params = {"mode": "now", "text": text}
            await self.control.call(instance.sandbox_id, "wake", params)

    @asynccontextmanager
    async def _gateway(self, instance: Instance) -> AsyncIterator[Gateway]:
        async with self.residency.using(instance) as running:
            yield self.gateway_of(running.sandbox_id, running.gateway_url)

    async def _read(self, instance: Instance, gateway: Gateway) -> list[Job]:
        answer = await _call(gateway, "cron.list", {"includeDisabled": True})
        listed = await asyncio.to_thread(jobs.read_jobs, answer)
        await self.due_jobs.note(instance, listed)
        self.due_jobs.look_again(instance.id)
        return listed

    async def _session(self, instance: Instance, name: str | None) -> str | None:
        if name is None:
            return None
        key = session_key(name)
        if self.session_names.find(instance.id, key) is None:
            await self.session_names.remember(instance.id, name)
        return key

    async def _model(self, instance: Instance, gateway: Gateway, model: str | None) -> str | None:
        if model is None:
            return None
        route = await self.models.resolve(instance, model)
        await self.models.register(instance, gateway, route, has_images=False)
        return route.openclaw_model

    def _traced(self, instance: Instance, run: JobRun) -> TracedRun:
        began = self.times.machine_time_of(instance, run.began_at, is_last=False) - SLACK
        ended = self.times.machine_time_of(instance, run.ended_at, is_last=True) + SLACK
        calls = [
            each
            for each in self.call_log.of_instance(instance.id)
            if began <= each.at <= ended and each.session_key == run.session_key
        ]
        turn = self.traces.with_call(instance.id, calls[-1].id) if calls else None
        if run.outcome == "failed" and calls and calls[0].error is not None:
            # OpenClaw's own words for a failed model call do not say why.
            run = replace(run, error=calls[0].error)
        return TracedRun(run, calls[::-1], None if turn is None else turn.id)


async def _get(gateway: Gateway, job_id: str) -> Job:
    return jobs.read_job(await _call(gateway, "cron.get", {"id": job_id}))


async def _call(gateway: Gateway, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Raises JobNotFound, JobRefused, GatewayUnavailable."""
    try:
        return await gateway.call(method, params)
    except RpcRefused as refused:
        if jobs.is_not_found(refused):
            raise JobNotFound from None
        # OpenClaw's advice after the first line is for its own clients.
        message = str(refused).removeprefix(f"invalid {method} params: ")
        raise JobRefused(f"OpenClaw does not take the job: {message}") from refused
