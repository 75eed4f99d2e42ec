"""Long arrays, made page by page so that nobody else waits for the whole of one."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, TypeAdapter
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

Item = TypeVar("Item")

# Each model serializes itself, whatever the list says that it holds.
_VIEWS = TypeAdapter(list[Any])


async def array(
    pages: AsyncGenerator[list[Item]], view_of: Callable[[Item], BaseModel]
) -> Response:
    """One JSON array of the views of everything that comes, sent once it is whole."""
    written: list[bytes] = []
    async with aclosing(pages):
        async for page in pages:
            written.append(_VIEWS.dump_json([view_of(each) for each in page])[1:-1])
    return Response(b"[%b]" % b",".join(written), media_type="application/json")
