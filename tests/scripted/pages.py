"""Collects the pages of a list."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

Item = TypeVar("Item")


async def all_of(pages: AsyncGenerator[list[Item]]) -> list[Item]:
    """The items of all pages, in order."""
    async with aclosing(pages):
        return [each async for page in pages for each in page]
