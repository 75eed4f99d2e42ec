"""Handlers: sign-up, the organization, its tier, and links to the pages that change the tier."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.responses import Response

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
from chowder_local.http.middleware import OFFLINE_PROVIDERS_HEADER, note
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from starlette.requests import Request


async def signup(request: Request) -> SignupView:
    """Creates an organization and its key, which no other answer has."""
    body = await parse(request, Signup)
    details, api_key = await services(request).organizations.signup(body.name)
    return SignupView(organization=OrganizationView.from_details(details), api_key=api_key)


async def show(request: Request) -> Response:
    """The caller's organization. A header has the providers whose key is `offline`."""
    details = await services(request).organizations.details(caller(request).organization_id)
    view = OrganizationView.from_details(details)
    # In a header, because the body is the hosted service's.
    headers = {OFFLINE_PROVIDERS_HEADER: ",".join(details.offline_providers)}
    return Response(view.model_dump_json(), headers=headers, media_type="application/json")


async def change(request: Request) -> OrganizationView:
    """Renames the organization, or sets or removes model keys."""
    body = await parse(request, OrganizationChange)
    if body.model_api_keys:
        note(request, model_keys="+".join(sorted(body.model_api_keys)))
    details = await services(request).organizations.change(
        caller(request).organization_id, name=body.name, model_api_keys=body.model_api_keys
    )
    return OrganizationView.from_details(details)


async def subscription(request: Request) -> SubscriptionView:
    """The organization's tier, and how many of its instances are used."""
    details = await services(request).organizations.details(caller(request).organization_id)
    return SubscriptionView.from_details(details)


async def checkout(request: Request) -> LinkView:
    """A link to a page of this server where one click changes the tier; nothing is paid."""
    body = await parse(request, CheckoutCreation)
    session = services(request).subscriptions.checkout_session(
        caller(request).organization_id, body.tier
    )
    return _link(request, "checkout", session)


async def portal(request: Request) -> LinkView:
    """A link to a page of this server where any tier can be chosen."""
    session = services(request).subscriptions.portal_session(caller(request).organization_id)
    return _link(request, "portal", session)


def _link(request: Request, page: str, session: str) -> LinkView:
    # The host that the client used: the server may not know it.
    return LinkView(url=f"{request.base_url}local/{page}?{urlencode({'session': session})}")
