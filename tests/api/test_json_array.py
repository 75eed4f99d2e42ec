"""Long JSON arrays are valid, and do not block the event loop."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from chowder_local.http.responses import array

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class View(BaseModel):
    """The view of a number."""

    number: int
    name: str


def view_of(number: int) -> View:
    return View(number=number, name=f"Nº {number}")


async def of(*pages: list[int]) -> AsyncGenerator[list[int]]:
    for page in pages:
        yield page


@pytest.mark.parametrize("pages", [[], [[1]], [[1, 2], [3]], [[1], [2], [3, 4]]])
async def test_the_pages_become_one_array(pages: list[list[int]]) -> None:
    response = await array(of(*pages), view_of)
    numbers = [number for page in pages for number in page]
    assert json.loads(bytes(response.body)) == [view_of(number).model_dump() for number in numbers]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.body))


async def test_it_is_serialized_as_other_responses_are() -> None:
    written = (await array(of([1]), view_of)).body
    assert written == '[{"number":1,"name":"Nº 1"}]'.encode()


async def test_the_pages_are_closed_when_a_view_fails() -> None:
    closed = asyncio.Event()

    async def pages() -> AsyncGenerator[list[int]]:
        try:
            yield [1]
        finally:
            closed.set()

    def failing(number: int) -> View:
        raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        await array(pages(), failing)
    assert closed.is_set()
