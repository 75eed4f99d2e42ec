"""Handlers: snapshots, forks, restores, exports and imports."""

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
    Upgrade,
    UpgradeView,
)
from chowder_local.api.uploads import steady
from chowder_local.http.bodies import parse, parse_query
from chowder_local.http.middleware import note
from chowder_local.http.responses import CLIENT_CLOSED_REQUEST, download
from chowder_local.http.services import caller, instance_of, services
from chowder_local.instances.snapshots.upgrades import ERROR

if TYPE_CHECKING:
    from starlette.requests import Request


async def create_snapshot(request: Request) -> SnapshotView:
    """Takes a snapshot of an instance, after the turn in progress if there is one."""
    instance = await instance_of(request)
    body = await parse(request, SnapshotCreation)
    snapshot = await services(request).snapshots.take(instance, body.name)
    return SnapshotView.model_validate(snapshot)


async def list_instance_snapshots(request: Request) -> list[SnapshotView]:
    """The snapshots of an instance, oldest first."""
    instance = await instance_of(request)
    snapshots = await services(request).snapshots.of_instance(instance.id)
    return [SnapshotView.model_validate(each) for each in snapshots]


async def list_snapshots(request: Request) -> list[SnapshotView]:
    """All snapshots, oldest first, with those of deleted instances."""
    organization_id = caller(request).organization_id
    snapshots = await services(request).snapshots.of_organization(organization_id)
    return [SnapshotView.model_validate(each) for each in snapshots]


async def get_snapshot(request: Request) -> SnapshotView:
    """One snapshot."""
    snapshot = await services(request).snapshots.get(
        caller(request).organization_id, request.path_params["snapshot_id"]
    )
    return SnapshotView.model_validate(snapshot)


async def delete_snapshot(request: Request) -> None:
    """Removes a snapshot, but not the instances that were made from it."""
    await services(request).snapshots.remove(
        caller(request).organization_id, request.path_params["snapshot_id"]
    )


async def fork_instance(request: Request) -> InstanceView:
    """A new instance with a copy of this one's conversations, files and configuration."""
    instance = await instance_of(request)
    body = await parse(request, Fork)
    forked = await services(request).forks.fork(instance, body.name, keeps_jobs=body.jobs == "on")
    return InstanceView.from_instance(forked, caller(request))


async def fork_snapshot(request: Request) -> InstanceView:
    """A new instance with the snapshot's conversations, files and configuration."""
    body = await parse(request, Fork)
    forked = await services(request).forks.fork_snapshot(
        caller(request).organization_id,
        request.path_params["snapshot_id"],
        body.name,
        keeps_jobs=body.jobs == "on",
    )
    return InstanceView.from_instance(forked, caller(request))


async def restore_instance(request: Request) -> InstanceView:
    """Takes an instance back to a snapshot; what it has done since then is lost."""
    instance = await instance_of(request)
    body = await parse(request, Restoration)
    note(request, snapshot=body.snapshot_id)
    restored = await services(request).restores.restore(
        instance.organization_id, instance, body.snapshot_id
    )
    return InstanceView.from_instance(restored, caller(request))


async def upgrade_instance(request: Request) -> UpgradeView:
    """Moves a running instance to a newer OpenClaw release, after a snapshot of it.

    With `dry_run`, it only runs that release's own checks on a copy. To go back, restore the
    snapshot: it brings the former release back, too.
    """
    instance = await instance_of(request)
    body = await parse(request, Upgrade)
    note(request, to=body.to, dry_run=str(body.dry_run).lower())
    serving = services(request)
    snapshot_id, findings = None, []
    instance = former = await serving.upgrade_checks.ensure_possible(instance, body.to)
    if body.dry_run:
        findings = await serving.upgrade_checks.examine(instance, body.to)
    else:
        instance, snapshot = await serving.upgrades.upgrade(instance, body.to)
        snapshot_id = snapshot.id
    return UpgradeView(
        id=instance.id,
        from_version=serving.upgrade_checks.versions.release(former.openclaw_version),
        to_version=serving.upgrade_checks.versions.release(body.to),
        snapshot_id=snapshot_id,
        status=instance.status,
        can_upgrade=all(each.severity != ERROR or each.is_expected for each in findings),
        findings=list(findings),
    )


async def export_instance(request: Request) -> Response:
    """The instance as one file for another machine, without any credentials."""
    instance = await instance_of(request)
    export = await services(request).exports.export(instance)
    return await download(request, export.file_name, export.size, export.chunks)


async def import_instance(request: Request) -> InstanceView | Response:
    """A new instance, made of an exported file, which is the request's body."""
    query = parse_query(request, ImportQuery)
    exports, by = services(request).exports, caller(request)
    body = steady(request.stream(), services(request).files.idle_timeout_s)
    try:
        imported = await exports.import_archive(
            by.organization_id, body, query.name, keeps_jobs=query.jobs == "on"
        )
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return InstanceView.from_instance(imported, by)
