"""An instance's snapshots, their restores and forks, and exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from chowder_local.api.handlers.snapshots import export_instance
from chowder_local.api.schemas.instances import Fork, SnapshotCreation
from chowder_local.core.events import EventType
from chowder_local.dashboard.pages import dialog, instance_page, notice, parse_form, part
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.streams import follow_instance
from chowder_local.http.services import instance_of, services

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance, Snapshot

MACROS = "_snapshots.html"
LIST_EVENTS = {EventType.SNAPSHOT_MADE, EventType.SNAPSHOT_REMOVED, EventType.INSTANCE_STATUS}


class StreamQuery(BaseModel):
    after: str | None = Field(None, max_length=64)
    """The last event before the page was rendered."""


async def show(request: Request) -> Response:
    instance = await instance_of(request)
    # The last event is read before the list: an event in between is sent twice rather than never.
    last_event = services(request).events.last_id
    return await instance_page(
        request,
        "snapshots.html",
        instance,
        tab="/snapshots",
        snapshots=await _latest_first(request, instance),
        last_event=last_event,
    )


async def follow(request: Request) -> Response:
    """Tells the page when to reload its list."""
    return await follow_instance(request, LIST_EVENTS)


async def take(request: Request) -> Response:
    instance = await instance_of(request)
    sent = await parse_form(request, SnapshotCreation)
    snapshot = await services(request).snapshots.take(instance, sent.name)
    return await _changed(request, instance, f"{_title(snapshot)} is taken.")


async def confirm_restore(request: Request) -> Response:
    instance, snapshot = await _find(request)
    return dialog(request, MACROS, "confirm_restore", instance, _title(snapshot))


async def restore(request: Request) -> Response:
    instance, snapshot = await _find(request)
    restored = await services(request).restores.restore(
        instance.organization_id, instance, snapshot.id
    )
    return await _changed(
        request, restored, f"{restored.name} is being restored to {_title(snapshot)}."
    )


async def propose_fork(request: Request) -> Response:
    instance, snapshot = await _find(request)
    return dialog(request, MACROS, "propose_fork", instance, _title(snapshot))


async def fork(request: Request) -> Response:
    instance, snapshot = await _find(request)
    sent = await parse_form(request, Fork)
    forked = await services(request).forks.fork_snapshot(
        instance.organization_id, snapshot.id, sent.name
    )
    return await _changed(
        request, instance, f"{forked.name} is being created from {_title(snapshot)}."
    )


async def confirm_delete(request: Request) -> Response:
    instance, snapshot = await _find(request)
    return dialog(request, MACROS, "confirm_delete", instance, _title(snapshot))


async def delete(request: Request) -> Response:
    instance, snapshot = await _find(request)
    await services(request).snapshots.remove(instance.organization_id, snapshot.id)
    return await _changed(request, instance, f"{_title(snapshot)} is deleted.")


async def export(request: Request) -> Response:
    """The instance as a file, which the browser saves and never renders."""
    response = await export_instance(request)
    response.headers.update(HEADERS)
    return response


async def _find(request: Request) -> tuple[Instance, Snapshot]:
    instance = await instance_of(request)
    snapshot = await services(request).snapshots.get(
        instance.organization_id, request.path_params["snapshot_id"]
    )
    return instance, snapshot


async def _changed(request: Request, instance: Instance, text: str) -> Response:
    snapshots = await _latest_first(request, instance)
    listed = part(request, MACROS, "listing", instance, snapshots, oob=True)
    return notice(request, text, listed)


async def _latest_first(request: Request, instance: Instance) -> list[Snapshot]:
    return (await services(request).snapshots.of_instance(instance.id))[::-1]


def _title(snapshot: Snapshot) -> str:
    return snapshot.name or f"snapshot {snapshot.id[:8]}"
