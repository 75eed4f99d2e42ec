"""What clients and people see of features together with the kernel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import TYPE_CHECKING

from chowder_local.api.routes import OPERATIONS as KERNEL_OPERATIONS
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.dashboard.rendering import Assets, Rendering
from chowder_local.dashboard.routes import PAGES as KERNEL_PAGES
from chowder_local.features.feature import own_features

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from chowder_local.api.operations import Operation
    from chowder_local.dashboard.pages import PageParts
    from chowder_local.dashboard.routes import Page
    from chowder_local.features.feature import Feature


@dataclass(frozen=True, eq=False)
class Whole:
    """The route table, other routes, the dashboard's pages that need a session, and what features
    show on pages: the kernel's, and those of features.
    """

    operations: tuple[Operation, ...]
    routes: tuple[BaseRoute, ...]
    pages: tuple[Page, ...]
    parts: tuple[PageParts, ...]
    rendering: Rendering


@cache
def whole_of(features: tuple[Feature, ...]) -> Whole:
    """Shared by all servers of a process with these features, because it has no state.

    Raises SettingsInvalid if two features have a call or page with one address.
    """
    fronts = [each.front() for each in features]
    operations = (*KERNEL_OPERATIONS, *(row for each in fronts for row in each.operations))
    made = [each.routes(operations) for each in fronts if each.routes is not None]
    whole = Whole(
        operations=operations,
        routes=tuple(chain.from_iterable(made)),
        pages=(*KERNEL_PAGES, *(page for each in fronts for page in each.pages)),
        parts=tuple(each.parts for each in fronts if each.parts is not None),
        rendering=Rendering(Assets(), [each.package for each in features if _has_templates(each)]),
    )
    addresses = Counter(
        [(each.method, each.path) for each in whole.operations]
        + [(each.method, each.path) for each in whole.pages]
    )
    if twice := [" ".join(address) for address, count in addresses.items() if count > 1]:
        raise SettingsInvalid(
            f"Two features have a call or page with one address: {', '.join(twice)}. Leave one of "
            "them out with CHOWDER_FEATURES_OFF."
        )
    return whole


def _has_templates(feature: Feature) -> bool:
    return files(feature.package).joinpath("templates").is_dir()


def all_operations() -> tuple[Operation, ...]:
    """The route table of a server with all features of this package."""
    return whole_of(own_features()).operations


def all_pages() -> tuple[Page, ...]:
    """The dashboard's pages that need a session, of a server with all features of this package."""
    return whole_of(own_features()).pages
