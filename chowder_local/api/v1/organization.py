"""Handlers: signing up, what an organization is, its tier, and the links that change it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from chowder_local.api.schemas.organization import (
    CheckoutCreation,
    LinkView,
    OrganizationChange,
    OrganizationView,
    Signup,
    SignupView,
    SubscriptionView,
)
from chowder_local.http.bodies import parse
from chowder_local.http.request_log import note
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from starlette.requests import Request


async def signup(request: Request) -> SignupView:
    """Makes an organization and its key, which is shown this once."""
    body = await parse(request, Signup)
    details, api_key = await services(request).organizations.signup(body.name)
    return SignupView(organization=OrganizationView.of(details), api_key=api_key)


async def show(request: Request) -> OrganizationView:
    """The caller's organization."""
    organizations = services(request).organizations
    return OrganizationView.of(await organizations.details(caller(request).organization_id))


async def change(request: Request) -> OrganizationView:
    """Renames the organization, sets or removes model keys."""
    body = await parse(request, OrganizationChange)
    if body.model_api_keys:
        note(request, model_keys="+".join(sorted(body.model_api_keys)))
    details = await services(request).organizations.change(
        caller(request).organization_id, name=body.name, model_api_keys=body.model_api_keys
    )
    return OrganizationView.of(details)


async def subscription(request: Request) -> SubscriptionView:
    """The organization's tier and how much of it is used."""
    organizations = services(request).organizations
    return SubscriptionView.of(await organizations.details(caller(request).organization_id))


async def checkout(request: Request) -> LinkView:
    """A link to a page of this server on which one click pays nothing and moves the tier."""
    body = await parse(request, CheckoutCreation)
    session = services(request).subscriptions.checkout_session(
        caller(request).organization_id, body.tier
    )
    return _link(request, "checkout", session)


async def portal(request: Request) -> LinkView:
    """A link to a page of this server on which any tier can be chosen."""
    session = services(request).subscriptions.portal_session(caller(request).organization_id)
    return _link(request, "portal", session)


def _link(request: Request, page: str, session: str) -> LinkView:
    # By the name that the client called: the server may not know it.
    return LinkView(url=f"{request.base_url}local/{page}?{urlencode({'session': session})}")
