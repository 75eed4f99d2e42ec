"""What clocks add to the server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chowder_local.features.clock.service import Clocks
from chowder_local.features.feature import Feature, Front

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.services import Services


@asynccontextmanager
async def open_clocks(kernel: Services) -> AsyncIterator[Clocks]:
    yield Clocks(
        times=kernel.agent_times,
        agents=kernel.agents,
        residency=kernel.residency,
        due_jobs=kernel.due_jobs,
        call_log=kernel.call_log,
        activities=kernel.activities,
        events=kernel.events,
        clock=kernel.clock,
    )


def front() -> Front:
    from chowder_local.features.clock import api, page

    return Front(operations=api.OPERATIONS, pages=page.PAGES, parts=page.PARTS)


FEATURE = Feature("clock", __package__, open_clocks, front)
