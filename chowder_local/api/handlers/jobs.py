"""Handlers: scheduled jobs, and what wakes an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.api.schemas.jobs import (
    BegunRunView,
    JobChange,
    JobCreation,
    JobView,
    RunQuery,
    RunView,
    WakeBody,
)
from chowder_local.http.bodies import parse, parse_query
from chowder_local.http.responses import json_in_thread
from chowder_local.http.services import instance_of, services

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.api.schemas.jobs import FindName
    from chowder_local.core.domain import Instance


async def list_jobs(request: Request) -> Response:
    """The agent's jobs: those of clients and of the agent itself, and OpenClaw's own."""
    instance = await instance_of(request)
    listed = await services(request).jobs.all(instance)
    find_name = _names(request, instance)
    return await json_in_thread(lambda: [JobView.from_job(each, find_name) for each in listed])


async def create_job(request: Request) -> JobView:
    """Creates a job."""
    instance = await instance_of(request)
    body = await parse(request, JobCreation)
    job = await services(request).jobs.create(
        instance,
        body.definition(),
        session=body.session,
        model=body.model,
        openclaw=body.openclaw or {},
    )
    return JobView.from_job(job, _names(request, instance))


async def get_job(request: Request) -> JobView:
    """One job."""
    instance = await instance_of(request)
    job = await services(request).jobs.get(instance, request.path_params["job_id"])
    return JobView.from_job(job, _names(request, instance))


async def update_job(request: Request) -> JobView:
    """Changes a job, or switches it on or off."""
    instance = await instance_of(request)
    body = await parse(request, JobChange)
    job = await services(request).jobs.change(
        instance, request.path_params["job_id"], body.fields(), body.openclaw or {}
    )
    return JobView.from_job(job, _names(request, instance))


async def delete_job(request: Request) -> None:
    """Deletes a job; its runs are kept by OpenClaw for a while."""
    await services(request).jobs.delete(await instance_of(request), request.path_params["job_id"])


async def run_job(request: Request) -> BegunRunView:
    """Begins a run now, whether the job is due or not; the answer does not wait for its end."""
    job_id = request.path_params["job_id"]
    await services(request).jobs.run(await instance_of(request), job_id)
    return BegunRunView(job_id=job_id, path="forced")


async def list_job_runs(request: Request) -> Response:
    """The job's latest runs that have ended, latest first."""
    instance = await instance_of(request)
    limit = parse_query(request, RunQuery).limit
    runs = await services(request).jobs.runs(instance, request.path_params["job_id"], limit)
    find_name = _names(request, instance)
    # The model calls of long conversations take time to parse.
    return await json_in_thread(lambda: [RunView.from_run(each, find_name) for each in runs])


async def wake_instance(request: Request) -> None:
    """Wakes the agent: it takes the text up in its main session, as in a heartbeat."""
    instance = await instance_of(request)
    body = await parse(request, WakeBody)
    await services(request).jobs.wake(instance, body.text)


def _names(request: Request, instance: Instance) -> FindName:
    """Finds the names of an instance's sessions by OpenClaw's keys."""

    def find(key: str | None) -> str | None:
        found = None if key is None else services(request).session_names.find(instance.id, key)
        return None if found is None else found.name or "main"

    return find
