"""Handlers: an instance's life."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from chowder_local.api.schemas.instances import (
    InstanceChange,
    InstanceCreation,
    InstanceStatusView,
    InstanceView,
)
from chowder_local.http.bodies import parse
from chowder_local.http.json_array import array
from chowder_local.http.middleware import QUEUE_POSITION_HEADER
from chowder_local.http.services import caller, instance, services
from chowder_local.instances.lifecycle.creation import InstanceDraft

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.core.domain import Instance


async def create(request: Request) -> JSONResponse:
    """A new instance, which is provisioned in the background."""
    body = await parse(request, InstanceCreation)
    draft = InstanceDraft(**body.model_dump())
    instance = await services(request).creation.create(caller(request).organization_id, draft)
    return _shown(request, instance, 201)


async def index(request: Request) -> Response:
    """The instances that are not terminated: the organization's, or those the key is for.

    Of one that the key may not `read`, what `GET /v1/instances/{instance_id}` would tell beyond its
    name, status and provider is null.
    """
    who = caller(request)
    found = services(request).directory.all(who)
    return await array(found, lambda each: InstanceView.of(each, who))


async def show(request: Request) -> JSONResponse:
    """One instance."""
    return _shown(request, instance(request))


async def status(request: Request) -> Response:
    """One instance's status, light enough to poll, and its place among those that wait to boot."""
    found = instance(request)
    view = InstanceStatusView.of(found)
    position = services(request).boot_queue.position(found.id)
    # A header, because clients know the body: it is the hosted service's.
    headers = None if position is None else {QUEUE_POSITION_HEADER: str(position)}
    return Response(view.model_dump_json(), headers=headers, media_type="application/json")


async def change(request: Request) -> JSONResponse:
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
    return _shown(request, changed.instance)


async def stop(request: Request) -> JSONResponse:
    """Pauses a running instance; files, sessions and memory are kept."""
    instance = await services(request).lifecycle.stop(
        caller(request).organization_id, request.path_params["instance_id"]
    )
    return _shown(request, instance)


async def start(request: Request) -> JSONResponse:
    """Lets a stopped instance go on."""
    instance = await services(request).lifecycle.start(
        caller(request).organization_id, request.path_params["instance_id"]
    )
    return _shown(request, instance)


async def delete(request: Request) -> Response:
    """Destroys an instance's sandbox and data."""
    await services(request).lifecycle.delete(
        caller(request).organization_id, request.path_params["instance_id"]
    )
    return Response(status_code=204)


def _shown(request: Request, instance: Instance, status_code: int = 200) -> JSONResponse:
    view = InstanceView.of(instance, caller(request))
    return JSONResponse(view.model_dump(mode="json"), status_code)
