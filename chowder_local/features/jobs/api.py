"""The calls of jobs, and what wakes an agent: their rows of the route table, and their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.api.access import Access
from chowder_local.api.operations import Operation
from chowder_local.features.jobs.model import (
    BegunRunView,
    JobChange,
    JobCreation,
    JobView,
    RunQuery,
    RunView,
    WakeBody,
)
from chowder_local.features.jobs.service import Jobs
from chowder_local.http.bodies import parse, parse_query
from chowder_local.http.responses import json_in_thread
from chowder_local.http.services import instance_of, service, services

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.features.jobs.model import FindName


async def list_jobs(request: Request) -> Response:
    """The agent's jobs: those of clients and of the agent itself, and OpenClaw's own."""
    instance = await instance_of(request)
    listed = await service(request, Jobs).all(instance)
    find_name = _names(request, instance)
    return await json_in_thread(lambda: [JobView.from_job(each, find_name) for each in listed])


async def create_job(request: Request) -> JobView:
    """Creates a job."""
    instance = await instance_of(request)
    body = await parse(request, JobCreation)
    job = await service(request, Jobs).create(
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
    job = await service(request, Jobs).get(instance, request.path_params["job_id"])
    return JobView.from_job(job, _names(request, instance))


async def update_job(request: Request) -> JobView:
    """Changes a job, or switches it on or off."""
    instance = await instance_of(request)
    body = await parse(request, JobChange)
    job = await service(request, Jobs).change(
        instance, request.path_params["job_id"], body.fields(), body.openclaw or {}
    )
    return JobView.from_job(job, _names(request, instance))


async def delete_job(request: Request) -> None:
    """Deletes a job; its runs are kept by OpenClaw for a while."""
    await service(request, Jobs).delete(await instance_of(request), request.path_params["job_id"])


async def run_job(request: Request) -> BegunRunView:
    """Begins a run now, whether the job is due or not; the answer does not wait for its end."""
    job_id = request.path_params["job_id"]
    await service(request, Jobs).run(await instance_of(request), job_id)
    return BegunRunView(job_id=job_id, path="forced")


async def list_job_runs(request: Request) -> Response:
    """The job's latest runs that have ended, latest first."""
    instance = await instance_of(request)
    limit = parse_query(request, RunQuery).limit
    runs = await service(request, Jobs).runs(instance, request.path_params["job_id"], limit)
    find_name = _names(request, instance)
    # The model calls of long conversations take time to parse.
    return await json_in_thread(lambda: [RunView.from_run(each, find_name) for each in runs])


async def wake_instance(request: Request) -> None:
    """Wakes the agent: it takes the text up in its main session, as in a heartbeat."""
    instance = await instance_of(request)
    body = await parse(request, WakeBody)
    await service(request, Jobs).wake(instance, body.text)


def _names(request: Request, instance: Instance) -> FindName:
    """Finds the names of an instance's sessions by OpenClaw's keys."""

    def find(key: str | None) -> str | None:
        found = None if key is None else services(request).session_names.find(instance.id, key)
        return None if found is None else found.name or "main"

    return find


OPERATIONS = (
    Operation(
        "GET",
        "/local/instances/{instance_id}/jobs",
        list_jobs,
        Access.ORGANIZATION,
        "listJobs",
        "List jobs",
        answer=[JobView],
        errors=(409, 502),
        tool="list_jobs",
    ),
    Operation(
        "POST",
        "/local/instances/{instance_id}/jobs",
        create_job,
        Access.ORGANIZATION,
        "createJob",
        "Create a job",
        body=JobCreation,
        answer=JobView,
        status=201,
        errors=(400, 409, 502),
        tool="create_job",
    ),
    Operation(
        "GET",
        "/local/instances/{instance_id}/jobs/{job_id}",
        get_job,
        Access.ORGANIZATION,
        "getJob",
        "Show a job",
        answer=JobView,
        errors=(409, 502),
    ),
    Operation(
        "PATCH",
        "/local/instances/{instance_id}/jobs/{job_id}",
        update_job,
        Access.ORGANIZATION,
        "updateJob",
        "Change a job",
        body=JobChange,
        answer=JobView,
        errors=(400, 409, 502),
        tool="update_job",
    ),
    Operation(
        "DELETE",
        "/local/instances/{instance_id}/jobs/{job_id}",
        delete_job,
        Access.ORGANIZATION,
        "deleteJob",
        "Delete a job",
        status=204,
        errors=(409, 502),
        tool="delete_job",
    ),
    Operation(
        "POST",
        "/local/instances/{instance_id}/jobs/{job_id}/run",
        run_job,
        Access.ORGANIZATION,
        "runJob",
        "Run a job now",
        answer=BegunRunView,
        status=202,
        errors=(409, 502),
        tool="run_job",
    ),
    Operation(
        "GET",
        "/local/instances/{instance_id}/jobs/{job_id}/runs",
        list_job_runs,
        Access.ORGANIZATION,
        "listJobRuns",
        "List a job's runs",
        answer=[RunView],
        errors=(409, 502),
        query=RunQuery,
        tool="list_job_runs",
    ),
    Operation(
        "POST",
        "/local/instances/{instance_id}/wake",
        wake_instance,
        Access.ORGANIZATION,
        "wakeInstance",
        "Wake an agent",
        body=WakeBody,
        status=204,
        errors=(409, 502),
    ),
)
