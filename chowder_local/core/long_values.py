"""Work on long values: in a thread, because the event loop would stand still meanwhile."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_CHARS = 256 * 1024
_THREAD = ThreadPoolExecutor(1, "long-values")
"""Only one: several would keep Python's lock from one another, and from the event loop."""

Value = TypeVar("Value")
Result = TypeVar("Result")


async def off_loop(work: Callable[[Value], Result], value: Value) -> Result:
    """The result of work on JSON or bytes, which is done in a thread if the value is long."""
    if not is_long(value):
        return work(value)
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work, value)


def is_long(value: Any, max_chars: int = LONG_CHARS) -> bool:
    """Whether JSON has more than about so many characters, or bytes are more than that."""
    left, values = max_chars, [value]
    while values and left >= 0:
        each = values.pop()
        if isinstance(each, dict):
            values += [*each, *each.values()] if len(each) < left else []
            left -= len(each)
        elif isinstance(each, list | tuple):
            values += each if len(each) < left else []
            left -= len(each)
        else:
            left -= len(each) if isinstance(each, str | bytes) else 8
    return left < 0
