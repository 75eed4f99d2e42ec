"""Answers that are streamed as they come, and given up when the client is gone."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

import anyio
from starlette.responses import Response, StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

T = TypeVar("T")

# What nginx answers for a client that left; nobody is there to read it.
CLIENT_CLOSED_REQUEST = 499

EVENT_STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ClosingStream(StreamingResponse):
    """A streaming response that closes its generator whenever and however it ends.

    Starlette leaves that to the garbage collector if the client goes while bytes are sent, or
    before the first.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends all chunks."""
        async with aclosing(self.body_iterator):  # type: ignore[type-var]  # ours is a generator
            await super().__call__(scope, receive, send)


async def event_stream(request: Request, events: AsyncIterator[bytes]) -> Response:
    """Server-sent events; what fails before the first of them is still an ordinary error."""
    primed = await while_connected(request, lambda: _primed(events))
    if primed is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return ClosingStream(primed, media_type="text/event-stream", headers=EVENT_STREAM)


async def while_connected(request: Request, call: Callable[[], Awaitable[T]]) -> T | None:
    """The call's result; None if the client went away first, and then the call was cancelled."""
    result: T | None = None
    failure: Exception | None = None

    async def watch(scope: anyio.CancelScope) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch, group.cancel_scope)
        try:
            result = await call()
        except Exception as raised:  # noqa: BLE001 - carried out of the group, which would wrap it
            failure = raised
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
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
