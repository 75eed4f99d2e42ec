"""What breakpoints add to the server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chowder_local.features.breakpoints.service import Breakpoints
from chowder_local.features.feature import Feature, Front

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.services import Services


@asynccontextmanager
async def open_breakpoints(kernel: Services) -> AsyncIterator[Breakpoints]:
    breakpoints = Breakpoints(
        call_log=kernel.call_log,
        local_model=kernel.local_model,
        events=kernel.events,
        shutdown=kernel.shutdown,
        clock=kernel.clock,
    )
    hooks = kernel.feature_hooks
    hooks.before_model_call.append(breakpoints.hold)
    hooks.may_hold.append(breakpoints.is_active)
    hooks.standing_work.append(breakpoints.is_holding)
    hooks.on_instance_gone.append(breakpoints.forget)
    yield breakpoints


def front() -> Front:
    from chowder_local.features.breakpoints import api, page

    return Front(operations=api.OPERATIONS, pages=page.PAGES, parts=page.PARTS)


FEATURE = Feature("breakpoints", __package__, open_breakpoints, front)
