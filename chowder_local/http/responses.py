"""Long responses: downloads, and JSON that is made without blocking the event loop."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json
from starlette.responses import Response

from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.http.services import services
from chowder_local.http.streams import ClosingStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from starlette.requests import Request
    from starlette.types import Message, Send

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
