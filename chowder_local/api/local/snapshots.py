"""Handlers: snapshots of agents, and what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from chowder_local.api.schemas.instances import InstanceView
from chowder_local.api.schemas.snapshots import (
    Fork,
    ImportQuery,
    Restoration,
    SnapshotCreation,
    SnapshotView,
)
from chowder_local.api.uploads import steady
from chowder_local.http.audit import note
from chowder_local.http.bodies import parse, parse_query
from chowder_local.http.downloads import download
from chowder_local.http.services import caller, instance_of, services
from chowder_local.http.streams import CLIENT_CLOSED_REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from chowder_local.core.domain import Instance, Snapshot


async def create(request: Request) -> JSONResponse:
    """Keeps an instance as it is now; a turn that runs is let end first."""
    instance = await instance_of(request)
    body = await parse(request, SnapshotCreation)
    snapshot = await services(request).snapshots.take(instance, body.name)
    return JSONResponse(SnapshotView.of(snapshot).model_dump(mode="json"), 201)


async def of_instance(request: Request) -> JSONResponse:
    """The snapshots made of an instance, oldest first."""
    instance = await instance_of(request)
    return _listed(await services(request).snapshots.of_instance(instance.id))


async def index(request: Request) -> JSONResponse:
    """All snapshots, oldest first: those of instances that are gone included."""
    organization_id = caller(request).organization_id
    return _listed(await services(request).snapshots.of_organization(organization_id))


async def show(request: Request) -> JSONResponse:
    """One snapshot."""
    snapshot = await services(request).snapshots.snapshot(
        caller(request).organization_id, request.path_params["snapshot_id"]
    )
    return JSONResponse(SnapshotView.of(snapshot).model_dump(mode="json"))


async def delete(request: Request) -> Response:
    """Removes a snapshot; instances that were made of it stay."""
    await services(request).snapshots.remove(
        caller(request).organization_id, request.path_params["snapshot_id"]
    )
    return Response(status_code=204)


async def fork(request: Request) -> JSONResponse:
    """A new instance that is as this one is now; from then on each goes its own way."""
    instance = await instance_of(request)
    body = await parse(request, Fork)
    return _shown(request, await services(request).forks.fork(instance, body.name), 201)


async def fork_snapshot(request: Request) -> JSONResponse:
    """A new instance that is as the snapshot is."""
    body = await parse(request, Fork)
    forked = await services(request).forks.fork_snapshot(
        caller(request).organization_id, request.path_params["snapshot_id"], body.name
    )
    return _shown(request, forked, 201)


async def restore(request: Request) -> JSONResponse:
    """Makes an instance what it was; what it has become since is gone."""
    instance = await instance_of(request)
    body = await parse(request, Restoration)
    note(request, snapshot=body.snapshot_id)
    restored = await services(request).restores.restore(
        instance.organization_id, instance, body.snapshot_id
    )
    return _shown(request, restored)


async def export(request: Request) -> Response:
    """An instance as one file for another machine, without credentials of any kind."""
    instance = await instance_of(request)
    found = await services(request).exports.export(instance)
    return await download(request, found.file_name, found.size, found.chunks)


async def take_in(request: Request) -> Response:
    """A new instance of such a file, which is the request's body."""
    query = parse_query(request, ImportQuery)
    known = services(request)
    body = steady(request.stream(), known.files.idle_timeout_s)
    try:
        made = await known.exports.take_in(caller(request).organization_id, body, query.name)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return _shown(request, made, 201)


def _listed(snapshots: Iterable[Snapshot]) -> JSONResponse:
    return JSONResponse([SnapshotView.of(each).model_dump(mode="json") for each in snapshots])


def _shown(request: Request, instance: Instance, status_code: int = 200) -> JSONResponse:
    view = InstanceView.of(instance, caller(request))
    return JSONResponse(view.model_dump(mode="json"), status_code)
