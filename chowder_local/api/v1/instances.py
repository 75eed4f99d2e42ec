"""Handlers: an instance's life."""

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
from chowder_local.instances.lifecycle.creation import InstanceDraft

if TYPE_CHECKING:
    from starlette.requests import Request


async def create(request: Request) -> InstanceView:
    """A new instance, which is provisioned in the background."""
    body = await parse(request, InstanceCreation)
    draft = InstanceDraft(**body.model_dump())
    created = await services(request).creation.create(caller(request).organization_id, draft)
    return InstanceView.of(created, caller(request))


async def index(request: Request) -> Response:
    """The instances that are not terminated: the organization's, or those the key is for.

    Of one that the key may not `read`, what `GET /v1/instances/{instance_id}` would tell beyond its
    name, status and provider is null.
    """
    by = caller(request)
    return await array(services(request).directory.all(by), lambda each: InstanceView.of(each, by))


async def show(request: Request) -> InstanceView:
    """One instance."""
    return InstanceView.of(instance(request), caller(request))


async def status(request: Request) -> Response:
    """One instance's status, light enough to poll, and its place among those that wait to boot."""
    found = instance(request)
    view = InstanceStatusView(id=found.id, status=found.status, gateway_url=found.gateway_url)
    position = services(request).boot_queue.position(found.id)
    # A header, because clients know the body: it is the hosted service's.
    headers = None if position is None else {QUEUE_POSITION_HEADER: str(position)}
    return Response(view.model_dump_json(), headers=headers, media_type="application/json")


async def change(request: Request) -> InstanceView:
    """Renames an instance, or changes its OpenClaw configuration live.

    A scoped key that may not `read` the instance gets the same answer as in the list.
    """
    body = await parse(request, InstanceChange)
    changed = await services(request).reconfiguration.change(
        caller(request).organization_id,
        request.path_params["instance_id"],
        name=body.name,
        overrides=body.openclaw_config,
    )
    return InstanceView.of(changed.instance, caller(request))


async def stop(request: Request) -> InstanceView:
    """Pauses a running instance; files, sessions and memory are kept."""
    organization_id = caller(request).organization_id
    instance_id = request.path_params["instance_id"]
    stopped = await services(request).lifecycle.stop(organization_id, instance_id)
    return InstanceView.of(stopped, caller(request))


async def start(request: Request) -> InstanceView:
    """Lets a stopped instance go on."""
    organization_id = caller(request).organization_id
    instance_id = request.path_params["instance_id"]
    started = await services(request).lifecycle.start(organization_id, instance_id)
    return InstanceView.of(started, caller(request))


async def delete(request: Request) -> None:
    """Destroys an instance's sandbox and data."""
    instance_id = request.path_params["instance_id"]
    await services(request).lifecycle.delete(caller(request).organization_id, instance_id)
