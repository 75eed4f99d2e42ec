"""What a feature may bring, and the list of features."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from chowder_local.api.operations import Operation
    from chowder_local.dashboard.pages import HeldCallPart, InstanceButton
    from chowder_local.dashboard.routes import Page
    from chowder_local.services import Services


@dataclass(frozen=True, kw_only=True)
class Front:
    """What clients and people see of a feature.

    Its templates are those of its folder. `instance_button` is on each page of an agent,
    `held_call_part` on the page of a call that is held.
    """

    operations: Sequence[Operation] = ()
    pages: Sequence[Page] = ()
    instance_button: InstanceButton | None = None
    held_call_part: HeldCallPart | None = None


@dataclass(frozen=True)
class Feature:
    """A capability in a folder of its own.

    `open` makes its service, which handlers get by its class, adds to the kernel's hooks, and
    closes what it has opened. `front` is called, so that opening a feature imports no pages.
    """

    name: str
    open: Callable[[Services], AbstractAsyncContextManager[object]]
    front: Callable[[], Front]

    @property
    def package(self) -> str:
        return f"{__package__}.{self.name}"


NAMES = ("breakpoints",)
"""The folders, in the order in which hooks are called."""


@cache
def features() -> tuple[Feature, ...]:
    """All features, in order."""
    return tuple(import_module(f"{__package__}.{each}.feature").FEATURE for each in NAMES)


@asynccontextmanager
async def open_features(kernel: Services) -> AsyncIterator[None]:
    """Opens all features in order; they are closed in the reverse one."""
    async with AsyncExitStack() as stack:
        for each in features():
            opened = await stack.enter_async_context(each.open(kernel))
            kernel.features[type(opened)] = opened
        yield
