"""Handlers: snapshots of agents, and what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from chowder_local.api.schemas.instances import (
    Fork,
    ImportQuery,
    InstanceView,
    Restoration,
    SnapshotCreation,
    SnapshotView,
)
from chowder_local.api.uploads import steady
from chowder_local.http.bodies import parse, parse_query
from chowder_local.http.request_log import note
from chowder_local.http.responses import download
from chowder_local.http.services import caller, instance_of, services
from chowder_local.http.streams import CLIENT_CLOSED_REQUEST

if TYPE_CHECKING:
    from starlette.requests import Request


async def create(request: Request) -> SnapshotView:
    """Keeps an instance as it is now; a turn that runs is let end first."""
    instance = await instance_of(request)
    body = await parse(request, SnapshotCreation)
    snapshot = await services(request).snapshots.take(instance, body.name)
    return SnapshotView.of(snapshot)


async def of_instance(request: Request) -> list[SnapshotView]:
    """The snapshots made of an instance, oldest first."""
    instance = await instance_of(request)
    found = await services(request).snapshots.of_instance(instance.id)
    return [SnapshotView.of(each) for each in found]


async def index(request: Request) -> list[SnapshotView]:
    """All snapshots, oldest first: those of instances that are gone included."""
    organization_id = caller(request).organization_id
    found = await services(request).snapshots.of_organization(organization_id)
    return [SnapshotView.of(each) for each in found]


async def show(request: Request) -> SnapshotView:
    """One snapshot."""
    snapshot = await services(request).snapshots.snapshot(
        caller(request).organization_id, request.path_params["snapshot_id"]
    )
    return SnapshotView.of(snapshot)


async def delete(request: Request) -> None:
    """Removes a snapshot; instances that were made of it stay."""
    await services(request).snapshots.remove(
        caller(request).organization_id, request.path_params["snapshot_id"]
    )


async def fork(request: Request) -> InstanceView:
    """A new instance that is as this one is now; from then on each goes its own way."""
    instance = await instance_of(request)
    body = await parse(request, Fork)
    forked = await services(request).forks.fork(instance, body.name)
    return InstanceView.of(forked, caller(request))


async def fork_snapshot(request: Request) -> InstanceView:
    """A new instance that is as the snapshot is."""
    body = await parse(request, Fork)
    forked = await services(request).forks.fork_snapshot(
        caller(request).organization_id, request.path_params["snapshot_id"], body.name
    )
    return InstanceView.of(forked, caller(request))


async def restore(request: Request) -> InstanceView:
    """Makes an instance what it was; what it has become since is gone."""
    instance = await instance_of(request)
    body = await parse(request, Restoration)
    note(request, snapshot=body.snapshot_id)
    restored = await services(request).restores.restore(
        instance.organization_id, instance, body.snapshot_id
    )
    return InstanceView.of(restored, caller(request))


async def export_instance(request: Request) -> Response:
    """An instance as one file for another machine, without credentials of any kind."""
    instance = await instance_of(request)
    found = await services(request).exports.export(instance)
    return await download(request, found.file_name, found.size, found.chunks)


async def import_instance(request: Request) -> InstanceView | Response:
    """A new instance of such a file, which is the request's body."""
    query = parse_query(request, ImportQuery)
    known = services(request)
    body = steady(request.stream(), known.files.idle_timeout_s)
    try:
        made = await known.exports.import_archive(caller(request).organization_id, body, query.name)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return InstanceView.of(made, caller(request))
