"""What a feature may bring, and which features a server has."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from chowder_local.core.errors.process import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager
    from importlib.metadata import EntryPoint

    from starlette.routing import BaseRoute

    from chowder_local.api.operations import Operation
    from chowder_local.dashboard.pages import PageParts
    from chowder_local.dashboard.routes import Page
    from chowder_local.services import Services


@dataclass(frozen=True, kw_only=True)
class Front:
    """What clients and people see of a feature; `parts` is on pages of the kernel.

    `routes` makes those that are no calls of the API of the rows of all calls.
    """

    operations: Sequence[Operation] = ()
    routes: Callable[[Sequence[Operation]], Sequence[BaseRoute]] | None = None
    pages: Sequence[Page] = ()
    parts: PageParts | None = None


@dataclass(frozen=True)
class Feature:
    """A capability in a package of its own, whose folder `templates` has its templates.

    `open` makes its service, which handlers get by its class, adds to the kernel's hooks, and
    closes what it has opened. `front` is called, so that opening a feature imports no pages.
    """

    name: str
    package: str
    open: Callable[[Services], AbstractAsyncContextManager[object]]
    front: Callable[[], Front]


NAMES = ("budgets", "breakpoints", "approvals", "jobs", "clock", "webhooks", "messengers", "mcp")
"""The folders beside this module, in the order in which hooks are called."""
GROUP = "chowder_local.features"
"""The entry points by which other packages bring features: a name, and a `Feature`."""
ALL = "all"
SETTING = "CHOWDER_FEATURES_OFF"


@cache
def own_features() -> tuple[Feature, ...]:
    """Those of this package, in order."""
    return tuple(import_module(f"{__package__}.{each}.feature").FEATURE for each in NAMES)


@cache
def chosen_features(off: tuple[str, ...]) -> tuple[Feature, ...]:
    """Those of this package and then of others that are installed, but for those that are off.

    Raises SettingsInvalid as `choose`.
    """
    return choose(off, entry_points(group=GROUP))


def choose(off: Collection[str], found: Iterable[EntryPoint]) -> tuple[Feature, ...]:
    """As `chosen_features`; `found` are the entry points of other packages.

    Raises SettingsInvalid if no feature has a name that is off, if two have one name, or if one
    cannot be imported.
    """
    found = sorted(found, key=lambda each: each.name)
    known = [*NAMES, *(each.name for each in found)]
    if unknown := [each for each in off if each not in {ALL, *known}]:
        raise SettingsInvalid(
            f"{SETTING}: no feature is called {', '.join(unknown)}. There are: "
            f"{', '.join(known)}; {ALL} is for all."
        )
    if twice := sorted({each for each in known if known.count(each) > 1}):
        raise SettingsInvalid(
            f"Two packages bring a feature called {', '.join(twice)}: uninstall one of them. "
            f"'pip list' shows what is installed."
        )
    if ALL in off:
        return ()
    own = (each for each in own_features() if each.name not in off)
    return (*own, *(_load(each) for each in found if each.name not in off))


def _load(found: EntryPoint) -> Feature:
    """The feature of another package."""
    of = f"The feature {found.name} ({found.value})"
    cure = f"Upgrade or uninstall its package, or leave it out with {SETTING}={found.name}."
    try:
        feature = found.load()
    except Exception as failure:
        kind = type(failure).__name__
        raise SettingsInvalid(f"{of} cannot be imported: {kind}: {failure}. {cure}") from failure
    if not isinstance(feature, Feature) or feature.name != found.name:
        raise SettingsInvalid(f"{of} is no Feature of that name. {cure}")
    return feature


@asynccontextmanager
async def open_features(kernel: Services, features: Iterable[Feature]) -> AsyncIterator[None]:
    """Opens features in order; they are closed in the reverse one."""
    async with AsyncExitStack() as stack:
        for each in features:
            opened = await stack.enter_async_context(each.open(kernel))
            kernel.features[type(opened)] = opened
        yield
