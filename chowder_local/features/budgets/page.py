"""Budgets on the dashboard: a panel of the page of usage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from chowder_local.dashboard.pages import PageParts, dialog, notice, parse_form, part, with_query
from chowder_local.dashboard.routes import Page
from chowder_local.features.budgets.model import BudgetSetting
from chowder_local.features.budgets.service import Budgets
from chowder_local.http.bodies import parse_query
from chowder_local.http.services import caller, service, services
from chowder_local.relay.wire.wire_format import MAX_TOKENS

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance, InstanceId, OrganizationId

MACROS = "budgets.html"
HERE = "/usage/budget"


class BudgetForm(BudgetSetting):
    """A form's fields are texts."""

    tokens: int | None = Field(None, ge=0, le=MAX_TOKENS)
    model_calls: int | None = Field(None, ge=0, le=MAX_TOKENS)


class BudgetPageQuery(BaseModel):
    """Whose budget it is: the organization's without an instance."""

    instance: str = Field("", max_length=64)


def below_usage(request: Request, instance: Instance | None) -> Markup:
    """The budget of the organization, or of the instance whose usage is shown."""
    return _panel(request, None if instance is None else instance.id)


async def set_budget(request: Request) -> Response:
    """Sets the budget of the organization, or of the instance in the query."""
    organization_id, instance_id = await _owner(request)
    setting = await parse_form(request, BudgetForm)
    await service(request, Budgets).put(organization_id, instance_id, setting.limits)
    return notice(request, "The budget is set.", _panel(request, instance_id, oob=True))


async def confirm_remove_budget(request: Request) -> Response:
    return dialog(request, MACROS, "confirm_remove")


async def remove_budget(request: Request) -> Response:
    organization_id, instance_id = await _owner(request)
    await service(request, Budgets).remove(instance_id or organization_id)
    return notice(request, "The budget is removed.", _panel(request, instance_id, oob=True))


def _panel(request: Request, instance_id: InstanceId | None, *, oob: bool = False) -> Markup:
    budget = service(request, Budgets).find(instance_id or caller(request).organization_id)
    address = with_query(HERE, instance=instance_id)
    return part(request, MACROS, "panel", budget, address, oob=oob)


async def _owner(request: Request) -> tuple[OrganizationId, InstanceId | None]:
    organization_id = caller(request).organization_id
    instance = parse_query(request, BudgetPageQuery).instance
    if not instance:
        return organization_id, None
    return organization_id, (await services(request).directory.get(organization_id, instance)).id


PAGES = (
    Page("POST", HERE, set_budget, is_audited=True),
    Page("GET", f"{HERE}/remove", confirm_remove_budget),
    Page("POST", f"{HERE}/remove", remove_budget, is_audited=True),
)
PARTS = PageParts(below_usage=below_usage)
