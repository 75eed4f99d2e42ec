"""What clients and people see of all features together with the kernel."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from chowder_local.api.routes import OPERATIONS as KERNEL_OPERATIONS
from chowder_local.dashboard.rendering import Assets, Rendering
from chowder_local.dashboard.routes import PAGES as KERNEL_PAGES
from chowder_local.features.feature import features

if TYPE_CHECKING:
    from chowder_local.api.operations import Operation
    from chowder_local.dashboard.routes import Page
    from chowder_local.features.feature import Front


@cache
def fronts() -> tuple[Front, ...]:
    """Of each feature, in order."""
    return tuple(each.front() for each in features())


@cache
def all_operations() -> tuple[Operation, ...]:
    """The whole route table: the kernel's rows, and those of features."""
    return (*KERNEL_OPERATIONS, *(row for each in fronts() for row in each.operations))


@cache
def all_pages() -> tuple[Page, ...]:
    """The dashboard's pages that need a session: the kernel's, and those of features."""
    return (*KERNEL_PAGES, *(page for each in fronts() for page in each.pages))


@cache
def rendering() -> Rendering:
    """Shared by all servers of a process, because it has no state."""
    packages = [each.package for each in features()]
    return Rendering(Assets(), packages)
