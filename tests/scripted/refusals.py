"""What calls are refused with, as values that a table can be compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Arguments = ParamSpec("Arguments")


def refusal(
    kind: type[Exception] | tuple[type[Exception], ...],
    call: Callable[Arguments, object],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> str:
    """The words of the error of a kind that a call raises; empty if it raises none."""
    try:
        call(*args, **kwargs)
    except kind as refused:
        return str(refused)
    return ""


async def refusal_of(
    kind: type[Exception] | tuple[type[Exception], ...], awaited: Awaitable[object]
) -> str:
    """The words of the error of a kind that comes of waiting for it; empty if none comes."""
    try:
        await awaited
    except kind as refused:
        return str(refused)
    return ""
