"""Handlers: what the organization is, its name, its model keys, and its subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pydantic import BaseModel

from chowder_local.api.schemas.organization import CheckoutCreation, OrganizationChange
from chowder_local.core.domain import ModelProvider, Permission, Tier
from chowder_local.dashboard import keys
from chowder_local.dashboard.forms import form
from chowder_local.dashboard.instance_names import CHOICES, choices
from chowder_local.dashboard.services import fragment, moved, page
from chowder_local.http.audit import note
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.accounts.organizations import OrganizationDetails

HERE = "/organization"


class ModelKeySet(BaseModel):
    """A key for one provider."""

    provider: ModelProvider
    key: str


class Provider(BaseModel):
    """Whose key is meant."""

    provider: ModelProvider


async def show(request: Request) -> Response:
    """The organization with its scoped keys; more of these are a part that htmx takes out."""
    lines, more = await keys.lines(request)
    return await page(
        request,
        "organization.html",
        here=HERE,
        details=await _details(request),
        providers=list(ModelProvider),
        permissions=list(Permission),
        instances=await choices(request),
        choices=CHOICES,
        keys=lines,
        more=more,
    )


async def rename(request: Request) -> Response:
    """Gives it another name."""
    changed = validated(OrganizationChange, await form(request), "body")
    details = await services(request).organizations.change(
        caller(request).organization_id, name=changed.name
    )
    return fragment(
        request,
        "organization_changed.html",
        words=f"It is called {details.organization.name} now.",
        organization=details.organization,
    )


async def set_model_key(request: Request) -> Response:
    """Keeps a provider's key, in place of the one that is set."""
    wanted = validated(ModelKeySet, await form(request), "body")
    return await _changed(request, wanted.provider, wanted.key, "is set")


async def ask_clear_model_key(request: Request) -> Response:
    """The question whether it is really to be forgotten."""
    return fragment(
        request, "clear_model_key.html", provider=parse_query(request, Provider).provider
    )


async def clear_model_key(request: Request) -> Response:
    """Forgets a provider's key."""
    wanted = validated(Provider, await form(request), "body")
    return await _changed(request, wanted.provider, "", "is cleared")


async def subscription(request: Request) -> Response:
    """The tier, what the others are, and the ways to them."""
    return await page(
        request,
        "subscription.html",
        here="/subscription",
        details=await _details(request),
        tiers=list(Tier),
        payable=CheckoutCreation.model_json_schema()["properties"]["tier"]["enum"],
    )


async def checkout(request: Request) -> Response:
    """Goes to the page on which a tier is paid for."""
    wanted = validated(CheckoutCreation, await form(request), "body")
    session = services(request).subscriptions.checkout_session(
        caller(request).organization_id, wanted.tier
    )
    return moved(request, f"/local/checkout?{urlencode({'session': session})}")


async def portal(request: Request) -> Response:
    """Goes to the page on which any tier can be chosen."""
    session = services(request).subscriptions.portal_session(caller(request).organization_id)
    return moved(request, f"/local/portal?{urlencode({'session': session})}")


async def _changed(request: Request, provider: ModelProvider, key: str, done: str) -> Response:
    change = validated(OrganizationChange, {"model_api_keys": {provider: key}}, "body")
    note(request, model_keys=provider)
    details = await services(request).organizations.change(
        caller(request).organization_id, model_api_keys=change.model_api_keys
    )
    return fragment(
        request,
        "model_key_changed.html",
        words=f"The key for {provider} {done}.",
        details=details,
        provider=provider,
    )


async def _details(request: Request) -> OrganizationDetails:
    return await services(request).organizations.details(caller(request).organization_id)
