"""The calls of budgets: their rows of the route table, and their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.api.access import Access
from chowder_local.api.operations import Operation
from chowder_local.features.budgets.model import BudgetSetting, BudgetView, SpentView
from chowder_local.features.budgets.service import Budgets
from chowder_local.http.bodies import parse
from chowder_local.http.middleware import note
from chowder_local.http.services import caller, instance_of, service

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.core.domain import InstanceId, OrganizationId
    from chowder_local.features.budgets.service import Budget


async def get_budget(request: Request) -> BudgetView:
    """The budget, and what has been spent of it in its period."""
    organization_id, instance_id = await _budget_owner(request)
    return _view(service(request, Budgets).get(instance_id or organization_id))


async def set_budget(request: Request) -> BudgetView:
    """Limits what model calls may take in a period. Past it they get a 402, and turns end at once.

    It replaces the former limits; what was spent stays counted if the period is of the same kind.
    """
    owner = await _budget_owner(request)
    body = await parse(request, BudgetSetting)
    given = body.model_dump(mode="json", exclude_unset=True)
    note(request, **{name: str(value) for name, value in given.items()})
    return _view(await service(request, Budgets).put(*owner, body.limits))


async def delete_budget(request: Request) -> None:
    """Removes the budget, if there is one, with what was spent of it."""
    organization_id, instance_id = await _budget_owner(request)
    await service(request, Budgets).remove(instance_id or organization_id)


async def _budget_owner(request: Request) -> tuple[OrganizationId, InstanceId | None]:
    """The organization, and the instance if the path names one."""
    if "instance_id" in request.path_params:
        instance = await instance_of(request)
        return instance.organization_id, instance.id
    return caller(request).organization_id, None


def _view(budget: Budget) -> BudgetView:
    return BudgetView(
        **vars(budget.limits),
        since=budget.since,
        until=budget.until,
        spent=SpentView.model_validate(budget.spent),
        reserved=SpentView.model_validate(budget.reserved),
        refused_at=budget.refused_at,
        message=budget.refusal,
    )


def _rows(path: str, noun: str, tool: str, whose: str) -> tuple[Operation, ...]:
    """Those of an owner of a budget."""
    return (
        Operation(
            "GET",
            path,
            get_budget,
            Access.ORGANIZATION,
            f"get{noun}",
            f"Show {whose} budget",
            answer=BudgetView,
            errors=(404,),
            python="budget",
            tool=f"get_{tool}",
        ),
        Operation(
            "PUT",
            path,
            set_budget,
            Access.ORGANIZATION,
            f"set{noun}",
            f"Set {whose} budget",
            body=BudgetSetting,
            answer=BudgetView,
            is_audited=True,
            python="set_budget",
            tool=f"set_{tool}",
        ),
        Operation(
            "DELETE",
            path,
            delete_budget,
            Access.ORGANIZATION,
            f"delete{noun}",
            f"Remove {whose} budget",
            status=204,
            is_audited=True,
            python="remove_budget",
        ),
    )


OPERATIONS = (
    *_rows(
        "/local/instances/{instance_id}/budget",
        "InstanceBudget",
        "instance_budget",
        "an instance's",
    ),
    *_rows("/local/budget", "Budget", "budget", "the organization's"),
)
