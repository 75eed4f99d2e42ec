"""Handlers: health, readiness, metrics and events."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import anyio
from starlette.responses import JSONResponse, Response

from chowder_local.api.schemas.server import ReadyView
from chowder_local.core.metrics import CONTENT_TYPE
from chowder_local.http.responses import EVENT_STREAM, event_stream
from chowder_local.http.services import caller, instance_of, services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from chowder_local.core.domain import InstanceId
    from chowder_local.core.events import Event, Events, Follower

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
COMMENT = b":\n\n"


async def get_health(request: Request) -> JSONResponse:
    """Versions, paths, counts, and whether the engine answers."""
    return JSONResponse(await services(request).health.report())


async def get_readiness(_: Request) -> ReadyView:
    """Answers once the server takes calls; before that nothing listens."""
    return ReadyView(ready=True)


async def get_metrics(request: Request) -> Response:
    """Counts, durations and states in the text format of Prometheus; see the metrics reference."""
    figures = await services(request).health.figures()
    return Response(services(request).metrics.render(figures), media_type=CONTENT_TYPE)


async def stream_events(request: Request) -> Response:
    """The events of the organization's instances, and those that concern no instance.

    The header `Last-Event-ID` resumes after that event. The events reference lists the types.
    """
    if request.method == "HEAD":
        return Response(media_type=MEDIA_TYPE, headers=EVENT_STREAM)
    return _following(request, None)


async def stream_instance_events(request: Request) -> Response:
    """The events of the instance alone, as `GET /local/events` streams them.

    They include what the agent does: `message.*`, `turn.*`, `tool.*` and `task.*`.
    """
    instance_id = (await instance_of(request)).id
    if request.method == "HEAD":
        return Response(media_type=MEDIA_TYPE, headers=EVENT_STREAM)
    return _following(request, instance_id)


def _following(request: Request, instance_id: InstanceId | None) -> Response:
    events = services(request).events
    last_id = request.headers.get("Last-Event-ID")
    following = events.follow(
        caller(request).organization_id, last_id, instance_id=instance_id, is_watching=True
    )
    return _Following(events, following)


class _Following(Response):
    """Sends events until the client leaves or reads too slowly, or the server stops."""

    def __init__(self, events: Events, following: AbstractContextManager[Follower]) -> None:
        super().__init__()
        self._events = events
        self._following = following

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._following as follower:
            stream = event_stream(_encoded(self._events, follower))
            async with anyio.create_task_group() as group:
                group.start_soon(_drop, follower, group.cancel_scope)
                await stream(scope, receive, send)
                group.cancel_scope.cancel()


async def _drop(follower: Follower, sending: anyio.CancelScope) -> None:
    """Stops sending once the follower is outrun, even while the client reads nothing."""
    await follower.is_outrun.wait()
    log.info("a client of the event stream reads too slowly and is disconnected")
    sending.cancel()


async def _encoded(events: Events, follower: Follower) -> AsyncIterator[bytes]:
    # A comment at once tells the client that the stream has begun.
    yield COMMENT
    async for batch in follower.batches():
        yield b"".join(encoded(events.id_of(each.number), each) for each in batch) or COMMENT


def encoded(event_id: str, event: Event) -> bytes:
    """An event in the format of server-sent events."""
    whose = {} if event.instance_id is None else {"instance_id": event.instance_id}
    at = event.at.isoformat(timespec="milliseconds")
    data = json.dumps({"type": event.type, "at": at, **whose, **event.members})
    return f"id: {event_id}\nevent: {event.type}\ndata: {data}\n\n".encode()
