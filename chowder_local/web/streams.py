"""Answers that are streamed as they come, and given up when the client is gone."""

from __future__ import annotations

from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from starlette.responses import Response, StreamingResponse

from chowder_local.errors.agents import ServerStopping

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from chowder_local.stopping import Stopping

T = TypeVar("T")

# What nginx answers for a client that left; nobody is there to read it.
CLIENT_CLOSED_REQUEST = 499

EVENT_STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ClosingStream(StreamingResponse):
    """A streaming response that closes its generator whenever and however it ends.

    Starlette leaves that to the garbage collector if the client goes while bytes are sent, or
    before the first. With `stopping`, it ends properly where it is when the server stops.
    """

    def __init__(
        self, content: AsyncIterator[bytes], *, stopping: Stopping | None = None, **options: Any
    ) -> None:
        super().__init__(content, **options)
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends all chunks."""
        async with aclosing(self.body_iterator):  # type: ignore[type-var]  # ours is a generator
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Sends all chunks, or those up to the server's end."""
        if self._stopping is None:
            return await super().stream_response(send)
        with anyio.CancelScope() as scope, self._stopping.calling(scope.cancel):
            return await super().stream_response(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return None


async def event_stream(
    request: Request,
    events: AsyncIterator[bytes],
    *,
    stopping: Stopping | None = None,
    ends_itself: bool = False,
) -> Response:
    """Server-sent events; what fails before the first of them is still an ordinary error.

    When the server stops, the wait for the first one is given up, and a stream that has begun
    ends where it is, unless its events have an end of their own for that.
    """
    primed = await while_connected(request, lambda: _primed(events), stopping)
    if primed is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return ClosingStream(
        primed,
        stopping=None if ends_itself else stopping,
        media_type="text/event-stream",
        headers=EVENT_STREAM,
    )


async def while_connected(
    request: Request, call: Callable[[], Awaitable[T]], stopping: Stopping | None = None
) -> T | None:
    """The call's result; None if the client went away first, and then the call was cancelled.

    With `stopping`, it is cancelled when the server stops, too. Raises ServerStopping.
    """
    result: T | None = None
    failure: Exception | None = None

    async def watch(scope: anyio.CancelScope) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch, group.cancel_scope)
        with stopping.calling(group.cancel_scope.cancel) if stopping else nullcontext():
            try:
                result = await call()
            except Exception as raised:  # noqa: BLE001 - carried out; the group would wrap it
                failure = raised
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if result is None and stopping is not None and stopping.has_begun:
        raise ServerStopping
    return result


async def _primed(events: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The same events, the first of which has been waited for."""
    first = await anext(events, b"")

    async def all_of_them() -> AsyncGenerator[bytes, None]:
        async with aclosing(events):  # type: ignore[type-var]  # generators, which can be closed
            yield first
            async for event in events:
                yield event

    return all_of_them()
