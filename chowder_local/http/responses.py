"""Answers that are long: files as they come, and JSON that is made without holding others up."""

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

# Each model serializes itself, whatever the list says that it holds.
_VIEWS = TypeAdapter(list[Any])


class FileStream(ClosingStream):
    """A file of known length; if it breaks off, so does the connection, which clients notice."""

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], headers: Mapping[str, str], idle_timeout_s: float
    ) -> None:
        super().__init__(chunks, headers=headers)
        self._idle_timeout_s = idle_timeout_s

    async def stream_response(self, send: Send) -> None:
        """Sends all chunks, as long as the client takes them."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._idle_timeout_s):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            raise StreamBroken("the download's client takes nothing any more") from None


async def download(
    request: Request, name: str, size: int, chunks: AsyncGenerator[bytes, None]
) -> Response:
    """The answer that is a file, or its headers alone if only these are asked for."""
    headers = attachment(name, size)
    if request.method == "HEAD":
        await chunks.aclose()
        return Response(headers=headers)
    return FileStream(chunks, headers, services(request).files.idle_timeout_s)


def attachment(name: str, size: int) -> dict[str, str]:
    """The headers of a file that is to be kept, not shown (RFC 6266)."""
    # The first is for clients that do not know the second.
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
    """One JSON array of the views of everything that comes, sent once it is whole."""
    written: list[bytes] = []
    async with aclosing(pages):
        async for page in pages:
            written.append(_VIEWS.dump_json([view_of(each) for each in page])[1:-1])
    return Response(b"[%b]" % b",".join(written), media_type=JSON)


async def json_in_thread(make: Callable[[], object]) -> Response:
    """What is made as JSON, both in a thread: it may be megabytes."""
    content = await asyncio.to_thread(lambda: to_json(make()))
    return Response(content, media_type=JSON)
