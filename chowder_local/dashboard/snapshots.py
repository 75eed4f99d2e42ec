"""Handlers: an instance's snapshots, and what is made of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field
from starlette.responses import Response

from chowder_local.api.local.snapshots import export as exported
from chowder_local.api.schemas.instances import Fork, SnapshotCreation
from chowder_local.core.events import EventType
from chowder_local.dashboard.event_watch import watch
from chowder_local.dashboard.forms import form
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.services import fragment
from chowder_local.dashboard.streams import MEDIA_TYPE, Live, Told
from chowder_local.dashboard.tabs import instance_page
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import instance_of, services
from chowder_local.http.streams import EVENT_STREAM

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.requests import Request

    from chowder_local.core.domain import Instance, Snapshot
    from chowder_local.dashboard.streams import Marks

CHANGED = "changed"
NEWS = {EventType.SNAPSHOT_MADE, EventType.SNAPSHOT_REMOVED, EventType.INSTANCE_STATUS}


class Followed(BaseModel):
    """From which event on."""

    after: str | None = Field(None, max_length=64)


async def show(request: Request) -> Response:
    """All of the instance's, latest first."""
    instance = await instance_of(request)
    # Before the list is read: what happens in between is told twice rather than never.
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
    """Tells the page when it is to look again."""
    instance = await instance_of(request)
    followed = parse_query(request, Followed)
    if request.method == "HEAD":
        return Response(media_type=MEDIA_TYPE, headers=HEADERS | EVENT_STREAM)

    async def events(marks: Marks) -> None:
        notice = partial(marks.add, CHANGED)
        await watch(request, NEWS, notice, instance_id=instance.id, after=followed.after)

    return Live(request, [events], _look_again)


async def take(request: Request) -> Response:
    """Keeps the instance as it is now; a turn that runs is let end first."""
    instance = await instance_of(request)
    sent = validated(SnapshotCreation, await form(request), "body")
    snapshot = await services(request).snapshots.take(instance, sent.name)
    return await _told(request, instance, f"{_called(snapshot)} is taken.")


async def ask_restore(request: Request) -> Response:
    """The question whether all since then is to be lost."""
    return await _asked(request, "restore.html")


async def restore(request: Request) -> Response:
    """Makes the instance what it was."""
    instance, snapshot = await _found(request)
    restored = await services(request).forks.restore(
        instance.organization_id, instance, snapshot.id
    )
    words = f"{restored.name} is being made what it was: {_called(snapshot)}."
    return await _told(request, restored, words)


async def ask_fork(request: Request) -> Response:
    """The question what the new instance is to be called."""
    return await _asked(request, "fork_snapshot.html")


async def fork(request: Request) -> Response:
    """A new instance that is as the snapshot is."""
    instance, snapshot = await _found(request)
    sent = validated(Fork, await form(request), "body")
    forked = await services(request).forks.fork_snapshot(
        instance.organization_id, snapshot.id, sent.name
    )
    return await _told(request, instance, f"{forked.name} is made of {_called(snapshot)}.")


async def ask_delete(request: Request) -> Response:
    """The question whether it is really to go."""
    return await _asked(request, "delete_snapshot.html")


async def delete(request: Request) -> Response:
    """Removes it; instances that were made of it stay."""
    instance, snapshot = await _found(request)
    await services(request).snapshots.remove(instance.organization_id, snapshot.id)
    return await _told(request, instance, f"{_called(snapshot)} is deleted.")


async def export(request: Request) -> Response:
    """The instance as one file, which a browser keeps and never shows."""
    answer = await exported(request)
    answer.headers.update(HEADERS)
    return answer


async def _look_again(_: frozenset[Hashable]) -> Told:
    return Told(event=CHANGED)


async def _found(request: Request) -> tuple[Instance, Snapshot]:
    """What the path names. Raises InstanceNotFound, SnapshotNotFound."""
    instance = await instance_of(request)
    snapshot = await services(request).snapshots.snapshot(
        instance.organization_id, request.path_params["snapshot_id"]
    )
    return instance, snapshot


async def _asked(request: Request, template: str) -> Response:
    instance, snapshot = await _found(request)
    return fragment(request, template, it=instance, snapshot=snapshot, called=_called(snapshot))


async def _told(request: Request, instance: Instance, words: str) -> Response:
    snapshots = await _latest_first(request, instance)
    return fragment(
        request, "snapshots_changed.html", words=words, it=instance, snapshots=snapshots
    )


async def _latest_first(request: Request, instance: Instance) -> list[Snapshot]:
    return (await services(request).snapshots.of_instance(instance.id))[::-1]


def _called(snapshot: Snapshot) -> str:
    return snapshot.name or f"snapshot {snapshot.id[:8]}"
