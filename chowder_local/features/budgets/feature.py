"""What budgets add to the server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chowder_local.core.tasks import logging_errors
from chowder_local.features.budgets.service import Budgets
from chowder_local.features.budgets.store import BudgetQueries
from chowder_local.features.feature import Feature, Front

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.services import Services


@asynccontextmanager
async def open_budgets(kernel: Services) -> AsyncIterator[Budgets]:
    budgets = Budgets(
        queries=BudgetQueries(kernel.database),
        prices=kernel.prices,
        cost_reports=kernel.cost_reports,
        events=kernel.events,
        clock=kernel.clock,
        max_calls_per_message=kernel.settings.max_calls_per_message,
    )
    await budgets.open(kernel.default_organization_id, kernel.settings.budget_usd)
    kernel.feature_hooks.reserve.append(budgets.reserve)
    kernel.feature_hooks.on_instance_gone.append(budgets.forget)
    kernel.tasks.create_task(budgets.run(), name="budgets")
    yield budgets
    with logging_errors("writing budgets"):
        await budgets.write()


def front() -> Front:
    from chowder_local.features.budgets import api, page

    return Front(operations=api.OPERATIONS, pages=page.PAGES, parts=page.PARTS)


FEATURE = Feature("budgets", __package__, open_budgets, front)
