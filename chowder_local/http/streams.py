"""Streaming responses, which end when the client disconnects."""

from __future__ import annotations

import logging
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import ServerStopping
from chowder_local.http.connections import break_off

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from chowder_local.core.shutdown import Shutdown

log = logging.getLogger(__name__)

T = TypeVar("T")

# nginx's status for a client that has left; only the log and the metrics see it.
CLIENT_CLOSED_REQUEST = 499

EVENT_STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ClosingStream(StreamingResponse):
    """A streaming response that closes its generator however it ends.

    Starlette leaves that to the garbage collector if the client leaves while bytes are sent, or
    before the first. Nothing is sent before the first chunk, which may be empty: an error before
    it gets an ordinary error response. With `shutdown`, a stopping server cancels the wait for that
    chunk, and properly ends a stream that has begun, unless it `ends_itself`.
    """

    def __init__(
        self,
        content: AsyncIterator[bytes],
        *,
        shutdown: Shutdown | None = None,
        ends_itself: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(content, **options)
        self._shutdown = shutdown
        self._ends_itself = ends_itself
        self._first = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends all chunks.

        Raises the error that occurs before the first chunk, ServerStopping if the server stops.
        """
        chunks: AsyncGenerator[bytes, None] = self.body_iterator  # type: ignore[assignment]  # content is one
        async with aclosing(chunks):
            first = await while_connected(
                Request(scope, receive), lambda: anext(chunks, b""), self._shutdown
            )
            if first is None:
                await Response(status_code=CLIENT_CLOSED_REQUEST)(scope, receive, send)
                return
            self._first = first
            try:
                await super().__call__(scope, receive, send)
            except ChowderError as broken:
                # The status is sent: only a closed connection shows that the rest is missing.
                log.warning("a response broke off: %s", broken)
                break_off(receive)

    async def stream_response(self, send: Send) -> None:
        """Sends all chunks, or those that come before the server stops."""
        stops = None if self._ends_itself else self._shutdown
        with (
            anyio.CancelScope() as scope,
            stops.on_shutdown(scope.cancel) if stops else nullcontext(),
        ):
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            async for chunk in self.body_iterator:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def event_stream(
    events: AsyncIterator[bytes], *, shutdown: Shutdown | None = None, ends_itself: bool = False
) -> ClosingStream:
    return ClosingStream(
        events,
        shutdown=shutdown,
        ends_itself=ends_itself,
        media_type="text/event-stream",
        headers=EVENT_STREAM,
    )


async def while_connected(
    request: Request, call: Callable[[], Awaitable[T]], shutdown: Shutdown | None = None
) -> T | None:
    """The call's result; None if the client disconnected first, which cancels the call.

    With `shutdown`, a stopping server cancels it, too, and ServerStopping is raised.
    """
    result: T | None = None
    failure: Exception | None = None

    async def watch(scope: anyio.CancelScope) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch, group.cancel_scope)
        with shutdown.on_shutdown(group.cancel_scope.cancel) if shutdown else nullcontext():
            try:
                result = await call()
            except Exception as raised:  # noqa: BLE001 - raised below; the group would wrap it
                failure = raised
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if result is None and shutdown is not None and shutdown.has_begun:
        raise ServerStopping
    return result
