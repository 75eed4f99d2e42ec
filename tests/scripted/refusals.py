"""The texts of raised errors, as values to compare with a table."""

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
    """The text of the error that a call raises; empty if it raises none of that kind."""
    try:
        call(*args, **kwargs)
    except kind as refused:
        return str(refused)
    return ""


async def refusal_of(
    kind: type[Exception] | tuple[type[Exception], ...], awaited: Awaitable[object]
) -> str:
    """The same for an awaitable."""
    try:
        await awaited
    except kind as refused:
        return str(refused)
    return ""
