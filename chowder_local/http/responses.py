"""Long responses: streams that end with their client, downloads, and JSON made aside."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import anyio
from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import ServerStopping
from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.http.listener import break_off
from chowder_local.http.services import services

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    from starlette.types import Message, Receive, Scope, Send

    from chowder_local.core.tasks import Shutdown

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
                # The status has been sent, so only a closed connection shows that the rest is
                # missing.
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


COMMENT_S = 15.0
"""How long a stream may be silent before it gets a comment, where it may."""


async def with_comments(
    events: AsyncGenerator[bytes, None],
    comment: Callable[[], bytes],
    failed: Callable[[ChowderError], bytes],
) -> AsyncGenerator[bytes]:
    """The events, and comments while nothing comes, so that no client gives up; empty is none.

    After a comment, an error before the first event cannot be an ordinary response any more: the
    stream then ends with what `failed` makes of it.
    """
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(8)
    failures: list[Exception] = []

    async def feed() -> None:
        try:
            async with aclosing(events):
                async for chunk in events:
                    await queue.put(chunk)
        except Exception as raised:  # noqa: BLE001 - raised below
            failures.append(raised)
        await queue.put(None)

    # One task for all steps of the generator, which may have a timeout open.
    task = asyncio.create_task(feed())  # noqa: TID251 - it ends with this generator
    has_comments = False
    try:
        while True:
            try:
                async with asyncio.timeout(COMMENT_S):
                    chunk = await queue.get()
            except TimeoutError:
                if line := comment():
                    has_comments = True
                    yield line
                continue
            if chunk is None:
                break
            yield chunk
        for failure in failures:
            if not (has_comments and isinstance(failure, ChowderError)):
                raise failure
            yield failed(failure)
    finally:
        task.cancel()
        await asyncio.wait({task})


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


MEDIA_TYPE = "application/octet-stream"
JSON = "application/json"

Item = TypeVar("Item")

# With Any, each model serializes itself.
_VIEWS = TypeAdapter(list[Any])


class FileStream(ClosingStream):
    """A file of known length; if reading it fails, the connection is closed, as clients notice."""

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], headers: Mapping[str, str], idle_timeout_s: float
    ) -> None:
        super().__init__(chunks, headers=headers)
        self._idle_timeout_s = idle_timeout_s

    async def stream_response(self, send: Send) -> None:
        """Sends all chunks. Raises StreamBroken if the client reads nothing for too long."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._idle_timeout_s):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            raise StreamBroken("the download's client has stopped reading") from None


async def download(
    request: Request, name: str, size: int, chunks: AsyncGenerator[bytes, None]
) -> Response:
    """The response with a file, or with its headers alone to a HEAD request."""
    headers = attachment(name, size)
    if request.method == "HEAD":
        await chunks.aclose()
        return Response(headers=headers)
    return FileStream(chunks, headers, services(request).files.idle_timeout_s)


def attachment(name: str, size: int) -> dict[str, str]:
    """The headers of a file that browsers save and do not show (RFC 6266)."""
    # `filename` is for clients that do not know `filename*`.
    plain = "".join(each if " " <= each <= "~" and each not in '"\\%' else "_" for each in name)
    full = quote(name, safe="")
    return {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(size),
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{full}",
        "X-Content-Type-Options": "nosniff",
    }


async def array(
    pages: AsyncGenerator[list[Item]], view_of: Callable[[Item], BaseModel]
) -> Response:
    """One JSON array of the views of all items, sent once it is complete."""
    parts: list[bytes] = []
    async with aclosing(pages):
        async for page in pages:
            parts.append(_VIEWS.dump_json([view_of(each) for each in page])[1:-1])
    return Response(b"[%b]" % b",".join(parts), media_type=JSON)


async def json_in_thread(make: Callable[[], object]) -> Response:
    """Makes the content and its JSON in a thread: it may be megabytes."""
    content = await asyncio.to_thread(lambda: to_json(make()))
    return Response(content, media_type=JSON)
