"""Handlers: the life cycle of instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from chowder_local.api.schemas.instances import (
    InstanceChange,
    InstanceCreation,
    InstanceStatusView,
    InstanceView,
)
from chowder_local.http.bodies import parse
from chowder_local.http.middleware import QUEUE_POSITION_HEADER
from chowder_local.http.responses import array
from chowder_local.http.services import caller, instance, services

if TYPE_CHECKING:
    from starlette.requests import Request


async def create(request: Request) -> InstanceView:
    """Creates an instance, which is provisioned in the background."""
    body = await parse(request, InstanceCreation)
    organization_id = caller(request).organization_id
    created = await services(request).creation.create(organization_id, **body.model_dump())
    return InstanceView.from_instance(created, caller(request))


async def index(request: Request) -> Response:
    """The organization's instances, or those that a scoped key is for; no terminated ones.

    `sandbox_id`, `gateway_url`, `openclaw_config` and `error_message` of an instance that the key
    may not `read` are null.
    """
    by = caller(request)
    instances = services(request).directory.all(by)
    return await array(instances, lambda each: InstanceView.from_instance(each, by))


async def show(request: Request) -> InstanceView:
    """One instance."""
    return InstanceView.from_instance(instance(request), caller(request))


async def status(request: Request) -> Response:
    """The instance's status, cheap to poll. A header has its place in the boot queue."""
    polled = instance(request)
    view = InstanceStatusView(id=polled.id, status=polled.status, gateway_url=polled.gateway_url)
    position = services(request).boot_queue.position(polled.id)
    # In a header, because the body is the hosted service's.
    headers = None if position is None else {QUEUE_POSITION_HEADER: str(position)}
    return Response(view.model_dump_json(), headers=headers, media_type="application/json")


async def change(request: Request) -> InstanceView:
    """Renames an instance, or changes its OpenClaw configuration while it runs.

    A scoped key that may not `read` the instance gets the same members as null as in the list.
    """
    body = await parse(request, InstanceChange)
    changed = await services(request).reconfiguration.change(
        caller(request).organization_id,
        request.path_params["instance_id"],
        name=body.name,
        overrides=body.openclaw_config,
    )
    return InstanceView.from_instance(changed.instance, caller(request))


async def stop(request: Request) -> InstanceView:
    """Pauses a running instance, and keeps its files, sessions and memory."""
    organization_id = caller(request).organization_id
    instance_id = request.path_params["instance_id"]
    stopped = await services(request).lifecycle.stop(organization_id, instance_id)
    return InstanceView.from_instance(stopped, caller(request))


async def start(request: Request) -> InstanceView:
    """Starts a stopped instance again, where it was."""
    organization_id = caller(request).organization_id
    instance_id = request.path_params["instance_id"]
    started = await services(request).lifecycle.start(organization_id, instance_id)
    return InstanceView.from_instance(started, caller(request))


async def delete(request: Request) -> None:
    """Terminates an instance, and deletes its sandbox and data."""
    instance_id = request.path_params["instance_id"]
    await services(request).lifecycle.delete(caller(request).organization_id, instance_id)
