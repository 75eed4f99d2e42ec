"""Handlers: the tier, and the links to pages that change it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.responses import JSONResponse

from chowder_local.api.schemas.subscription import CheckoutCreation, LinkView, SubscriptionView
from chowder_local.http.bodies import parse
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from starlette.requests import Request


async def show(request: Request) -> JSONResponse:
    """The organization's tier and how much of it is used."""
    details = await services(request).organizations.details(caller(request).organization_id)
    return JSONResponse(SubscriptionView.of(details).model_dump(mode="json"))


async def checkout(request: Request) -> JSONResponse:
    """A link to a page of this server on which one click pays nothing and moves the tier."""
    body = await parse(request, CheckoutCreation)
    session = services(request).subscriptions.checkout_session(
        caller(request).organization_id, body.tier
    )
    return _linked(request, "checkout", session)


async def portal(request: Request) -> JSONResponse:
    """A link to a page of this server on which any tier can be chosen."""
    session = services(request).subscriptions.portal_session(caller(request).organization_id)
    return _linked(request, "portal", session)


def _linked(request: Request, page: str, session: str) -> JSONResponse:
    # By the name that the client called us: it may have another one for us than we have.
    url = f"{request.base_url}local/{page}?{urlencode({'session': session})}"
    return JSONResponse(LinkView(url=url).model_dump(mode="json"))
