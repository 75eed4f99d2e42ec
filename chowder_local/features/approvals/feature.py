"""What approvals add to the server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chowder_local.features.approvals.service import Approvals
from chowder_local.features.feature import Feature, Front

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.services import Services


@asynccontextmanager
async def open_approvals(kernel: Services) -> AsyncIterator[Approvals]:
    approvals = Approvals(
        residency=kernel.residency,
        engine=kernel.engine,
        gateway_of=kernel.waiting_gateway_of,
        gateway_events=kernel.gateway_events,
        events=kernel.events,
    )
    kernel.feature_hooks.on_instance_gone.append(approvals.forget)
    yield approvals


def front() -> Front:
    from chowder_local.features.approvals import api, page

    return Front(operations=api.OPERATIONS, pages=page.PAGES, parts=page.PARTS)


FEATURE = Feature("approvals", __package__, open_approvals, front)
