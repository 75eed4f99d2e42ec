"""What jobs add to the server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chowder_local.features.feature import Feature, Front
from chowder_local.features.jobs.service import Jobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.services import Services


@asynccontextmanager
async def open_jobs(kernel: Services) -> AsyncIterator[Jobs]:
    yield Jobs(
        residency=kernel.residency,
        gateway_of=kernel.waiting_gateway_of,
        control=kernel.waiting_control,
        models=kernel.model_resolver,
        session_names=kernel.session_names,
        call_log=kernel.call_log,
        traces=kernel.traces,
        due_jobs=kernel.due_jobs,
        times=kernel.agent_times,
    )


def front() -> Front:
    from chowder_local.features.jobs import api, page

    return Front(operations=api.OPERATIONS, pages=page.PAGES, parts=page.PARTS)


FEATURE = Feature("jobs", __package__, open_jobs, front)
