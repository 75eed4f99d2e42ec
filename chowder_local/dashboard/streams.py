"""One stream of HTML for a page: what has changed is noted, and rendered once for all of it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio
from starlette.responses import Response

from chowder_local.core.errors.requests import SignInNeeded
from chowder_local.dashboard.guard import session
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.services import dashboard
from chowder_local.http.services import services
from chowder_local.http.streams import EVENT_STREAM, ClosingStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    Source = Callable[["Marks"], Coroutine[Any, Any, None]]
    Render = Callable[[frozenset[Hashable]], Awaitable["Told"]]

log = logging.getLogger(__name__)

TOGETHER_S = 0.15
"""What changes within that time is told together."""
QUIET_S = 15.0
MEDIA_TYPE = "text/event-stream"
SIGN_OF_LIFE = b":\n\n"


class Told:
    """What a page is told: HTML with `hx-swap-oob`, or an event for `hx-trigger`, or with data."""

    def __init__(self, data: str = "", event: str = "html", event_id: str | None = None):
        self._data = data
        self._event = event
        self._event_id = event_id

    def encoded(self) -> bytes:
        """As the stream has it."""
        lines = [] if self._event_id is None else [f"id: {self._event_id}"]
        data = self._data.splitlines() or [""]
        lines += [f"event: {self._event}", *(f"data: {line}" for line in data)]
        return ("\n".join(lines) + "\n\n").encode()


class Marks:
    """What has changed since it was told last. It is a set, so no burst is longer than a page."""

    def __init__(self) -> None:
        self._marks: set[Hashable] = set()
        self._news = asyncio.Event()

    def add(self, *marks: Hashable) -> None:
        """Notes something, by whatever name the page's rendering knows it."""
        self._marks.update(marks)
        self._news.set()

    async def take(self) -> frozenset[Hashable]:
        """What there is, once there is something; nothing at all after a quiet while."""
        try:
            async with asyncio.timeout(QUIET_S):
                await self._news.wait()
        except TimeoutError:
            return frozenset()
        await asyncio.sleep(TOGETHER_S)
        taken, self._marks = frozenset(self._marks), set()
        self._news.clear()
        return taken


class Live(Response):
    """Sends what has changed, until the page is left, the session ends, or the server does.

    Each of `sources` runs for as long and adds marks; `render` makes one telling of all marks.
    Who reads slowly is told less often, and never less.
    """

    def __init__(self, request: Request, sources: Sequence[Source], render: Render) -> None:
        super().__init__()
        self._request = request
        self._sources = sources
        self._render = render
        self._marks = Marks()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = ClosingStream(
            self._told(),
            shutdown=services(self._request).shutdown,
            media_type=MEDIA_TYPE,
            headers=HEADERS | EVENT_STREAM,
        )
        async with anyio.create_task_group() as group:
            for source in self._sources:
                group.start_soon(source, self._marks)
            await told(scope, receive, send)
            group.cancel_scope.cancel()

    async def _told(self) -> AsyncIterator[bytes]:
        # At once, so that the browser knows that it is heard.
        yield SIGN_OF_LIFE
        while True:
            marks = await self._marks.take()
            try:
                await dashboard(self._request).dashboard_sessions.caller(session(self._request))
            except SignInNeeded:
                yield Told(event="signed-out").encoded()
                return
            yield (await self._render(marks)).encoded() if marks else SIGN_OF_LIFE
