"""The subscription's page, and the pages of checkout and portal.

A link to checkout or portal authorizes by itself, so these pages need no session. They run no
script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, RedirectResponse

from chowder_local.api.schemas.accounts import CheckoutCreation
from chowder_local.core.domain import Tier
from chowder_local.core.errors.requests import LinkInvalid
from chowder_local.dashboard.forms import parse_form, with_query
from chowder_local.dashboard.pages import page, redirect
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.services import dashboard
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


LINK_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    # The address alone authorizes, so it must not leak.
    **{name: HEADERS[name] for name in ("Referrer-Policy", "Cache-Control")},
    "X-Content-Type-Options": "nosniff",
}


async def show(request: Request) -> Response:
    """The current tier, and links to the other tiers."""
    return await page(
        request,
        "subscription.html",
        here="/subscription",
        details=await services(request).organizations.details(caller(request).organization_id),
        payable=CheckoutCreation.model_json_schema()["properties"]["tier"]["enum"],
    )


async def begin_checkout(request: Request) -> Response:
    """Redirects to the checkout of a tier."""
    creation = await parse_form(request, CheckoutCreation)
    session = services(request).subscriptions.checkout_session(
        caller(request).organization_id, creation.tier
    )
    return redirect(request, with_query("/local/checkout", session=session))


async def open_portal(request: Request) -> Response:
    """Redirects to the portal, which offers every tier."""
    session = services(request).subscriptions.portal_session(caller(request).organization_id)
    return redirect(request, with_query("/local/portal", session=session))


async def show_checkout(request: Request) -> Response:
    """The checkout: a button that pays nothing, or the tier that is already paid."""
    checkout = await services(request).subscriptions.checkout(_session(request))
    return _link_page(request, details=checkout.details, tier=checkout.tier)


async def pay(request: Request) -> Response:
    """Moves the organization to the checkout's tier."""
    await services(request).subscriptions.pay(_session(request))
    return _see_other(request)


async def show_portal(request: Request) -> Response:
    """The current tier, and a button for each other tier."""
    details = await services(request).subscriptions.portal(_session(request))
    return _link_page(request, details=details, tier=None)


async def choose(request: Request) -> Response:
    """Moves the organization to a tier. Raises LinkInvalid if there is no such tier."""
    tier = request.query_params.get("tier", "")
    if tier not in set(Tier):
        raise LinkInvalid
    await services(request).subscriptions.choose(_session(request), Tier(tier))
    return _see_other(request)


def _session(request: Request) -> str:
    return request.query_params.get("session", "")


def _address(request: Request) -> str:
    return with_query(request.url.path, session=_session(request))


def _link_page(request: Request, **context: Any) -> Response:
    html = dashboard(request).rendering.html("tiers.html", address=_address(request), **context)
    return HTMLResponse(html, headers=LINK_PAGE_HEADERS)


def _see_other(request: Request) -> Response:
    return RedirectResponse(_address(request), 303, LINK_PAGE_HEADERS)
