"""Handlers: what the server decides, as it happens."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import anyio
from starlette.responses import Response

from chowder_local.http.services import caller, services
from chowder_local.http.streams import EVENT_STREAM, ClosingStream
from chowder_local.upstream import sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from chowder_local.core.events import Event, Events, Follower

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
SIGN_OF_LIFE = b":\n\n"


async def follow(request: Request) -> Response:
    """The events of the organization's instances, and those of the server that are nobody's.

    With `Last-Event-ID`, those that came after it first; README lists the types.
    """
    if request.method == "HEAD":
        return Response(media_type=MEDIA_TYPE, headers=EVENT_STREAM)
    events = services(request).events
    last_id = request.headers.get("Last-Event-ID")
    return _Following(events, events.follow(caller(request).organization_id, last_id))


class _Following(Response):
    """Sends events until the client goes, the server ends, or the client reads too slowly."""

    def __init__(self, events: Events, following: AbstractContextManager[Follower]) -> None:
        super().__init__()
        self._events = events
        self._following = following

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._following as follower:
            told = ClosingStream(
                _told(self._events, follower), media_type=MEDIA_TYPE, headers=EVENT_STREAM
            )
            async with anyio.create_task_group() as group:
                group.start_soon(_drop, follower, group.cancel_scope)
                await told(scope, receive, send)
                group.cancel_scope.cancel()


async def _drop(follower: Follower, sending: anyio.CancelScope) -> None:
    """Ends the sending once the follower is outrun, even while the client reads nothing."""
    await follower.is_outrun.wait()
    log.info("a follower of events reads too slowly and is dropped")
    sending.cancel()


async def _told(events: Events, follower: Follower) -> AsyncIterator[bytes]:
    # At once, so that the client knows that it is heard.
    yield SIGN_OF_LIFE
    async for batch in follower.batches():
        yield b"".join(encoded(events.id_of(each.number), each) for each in batch) or SIGN_OF_LIFE


def encoded(event_id: str, event: Event) -> bytes:
    """An event as the stream has it."""
    whose = {} if event.instance_id is None else {"instance_id": event.instance_id}
    at = event.at.isoformat(timespec="milliseconds")
    data = json.dumps({"type": event.type, "at": at, **whose, **event.more})
    return sse.encode(data, event.type, event_id)
