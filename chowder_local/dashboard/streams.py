"""Server-sent events for a page: marks of changes are collected and rendered together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from pydantic import BaseModel, Field
from starlette.responses import Response

from chowder_local.core.errors.requests import SignInNeeded
from chowder_local.core.events import EventType
from chowder_local.dashboard.rendering import STREAM_HEADERS, STREAM_MEDIA_TYPE
from chowder_local.dashboard.sign_in import session
from chowder_local.http.bodies import parse_query
from chowder_local.http.responses import ClosingStream
from chowder_local.http.services import caller, instance_of, services
from chowder_local.upstream import sse

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Coroutine,
        Hashable,
        Sequence,
    )
    from contextlib import AbstractContextManager

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from chowder_local.core.domain import InstanceId
    from chowder_local.core.events import ChangeSignal, Event

    Source = Callable[["Marks"], Coroutine[Any, Any, None]]
    Render = Callable[[frozenset[Hashable]], Awaitable["PageEvent"]]

CHANGED = "changed"
"""The event by which a page reloads its lists."""
COLLECT_S = 0.15
"""Changes within this time are sent together."""
CHANGES_MAX = 100
KEEP_ALIVE_S = 15.0
KEEP_ALIVE = b":\n\n"


@dataclass(frozen=True)
class PageEvent:
    """HTML with `hx-swap-oob`, or a named event for `hx-trigger` or a script."""

    data: str = ""
    name: str = "html"
    event_id: str | None = None

    def encode(self) -> bytes:
        # What sandboxes and models write may have half of a character.
        return sse.encode(
            "\n".join(self.data.splitlines()), self.name, self.event_id, errors="replace"
        )


@dataclass(frozen=True)
class RowChanged:
    """A row of a list may have changed; `is_new` if the page may lack the row."""

    row_id: str
    is_new: bool = False


class Marks:
    """The changes since the last rendering; a set, so that a burst costs no more than a page."""

    def __init__(self) -> None:
        self._marks: set[Hashable] = set()
        self._has_marks = asyncio.Event()

    def add(self, *marks: Hashable) -> None:
        self._marks.update(marks)
        self._has_marks.set()

    async def take(self) -> frozenset[Hashable]:
        """Waits for marks and returns all; returns none after KEEP_ALIVE_S without a mark."""
        try:
            async with asyncio.timeout(KEEP_ALIVE_S):
                await self._has_marks.wait()
        except TimeoutError:
            return frozenset()
        await asyncio.sleep(COLLECT_S)
        taken, self._marks = frozenset(self._marks), set()
        self._has_marks.clear()
        return taken


class LiveStream(Response):
    """Sends changes until the client disconnects, its session ends, or the server stops.

    Each of `sources` runs for that time and adds marks; `render` makes one event of all marks. A
    slow client gets fewer events, never fewer changes.
    """

    def __init__(self, request: Request, sources: Sequence[Source], render: Render) -> None:
        super().__init__(media_type=STREAM_MEDIA_TYPE, headers=STREAM_HEADERS)
        self._request = request
        self._sources = sources
        self._render = render
        self._marks = Marks()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        stream = ClosingStream(
            self._events(),
            shutdown=services(self._request).shutdown,
            media_type=STREAM_MEDIA_TYPE,
            headers=STREAM_HEADERS,
        )
        async with anyio.create_task_group() as group:
            for source in self._sources:
                group.start_soon(source, self._marks)
            await stream(scope, receive, send)
            group.cancel_scope.cancel()

    async def _events(self) -> AsyncIterator[bytes]:
        # Tells the browser at once that it is connected.
        yield KEEP_ALIVE
        while True:
            marks = await self._marks.take()
            try:
                await services(self._request).dashboard_sessions.caller(session(self._request))
            except SignInNeeded:
                yield PageEvent(name="signed-out").encode()
                return
            yield (await self._render(marks)).encode() if marks else KEEP_ALIVE


def changed_rows(marks: frozenset[Hashable]) -> dict[str, bool] | None:
    """Whether each changed row is new, by row id; None if there are more than CHANGES_MAX.

    After None the page must load its list again.
    """
    changed: dict[str, bool] = {}
    for each in marks:
        if isinstance(each, RowChanged):
            changed[each.row_id] = each.is_new or changed.get(each.row_id, False)
    return changed if len(changed) <= CHANGES_MAX else None


async def event_batches(
    request: Request, after: str | None = None, *, is_watching: bool = False
) -> AsyncIterator[list[Event]]:
    """The organization's events from `after` or from now on; EVENTS_MISSED stands for lost ones.

    Those of tools and tasks come only if it `is_watching`.
    """
    events, is_outrun = services(request).events, True
    organization_id = caller(request).organization_id
    while is_outrun:
        with events.follow(organization_id, after, is_watching=is_watching) as follower:
            async for batch in follower.batches():
                yield batch
            is_outrun = follower.is_outrun.is_set()
        after = "lost"


async def watch_events(
    request: Request,
    types: Collection[EventType],
    notify: Callable[[], None],
    *,
    instance_id: InstanceId | None = None,
    after: str | None = None,
    is_watching: bool = False,
) -> None:
    """Calls `notify` for events of these types and for lost events, from `after` or from now on.

    With `instance_id`, only events of this instance and events without an instance count.
    """
    notified = {*types, EventType.EVENTS_MISSED}
    async for batch in event_batches(request, after, is_watching=is_watching):
        if any(
            each.type in notified
            and (instance_id is None or each.instance_id in {None, instance_id})
            for each in batch
        ):
            notify()


class StreamQuery(BaseModel):
    after: str | None = Field(None, max_length=64)


async def follow_instance(
    request: Request, types: Collection[EventType], *, is_watching: bool = False
) -> Response:
    """A stream of `changed` for a page of an instance, at each of its events of these types."""
    instance = await instance_of(request)
    query = parse_query(request, StreamQuery)

    async def watch(marks: Marks) -> None:
        notify = partial(marks.add, CHANGED)
        await watch_events(
            request,
            types,
            notify,
            instance_id=instance.id,
            after=query.after,
            is_watching=is_watching,
        )

    async def render(_: frozenset[Hashable]) -> PageEvent:
        return PageEvent(name=CHANGED)

    return LiveStream(request, [watch], render)


async def watch_signal(signal: ChangeSignal, marks: Marks) -> None:
    """Adds a mark at each change, and one at once: it may have changed since the page was made."""
    marks.add(signal)
    async for _ in each_news(signal.watching()):
        marks.add(signal)


async def each_news(watching: AbstractContextManager[asyncio.Event]) -> AsyncIterator[None]:
    """Yields whenever there is news; news that arrives between two yields counts once."""
    with watching as news:
        while True:
            await news.wait()
            news.clear()
            yield
