"""Handlers: the pages that checkout and portal lead to. Their links stand in for a key."""

from __future__ import annotations

from functools import wraps
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from chowder_local.core.domain import Tier
from chowder_local.core.errors.requests import LinkInvalid
from chowder_local.http.error_rendering import status_of
from chowder_local.http.pages import page, see_other
from chowder_local.http.services import services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.accounts.organizations import OrganizationDetails

    Handler = Callable[[Request], Awaitable[Response]]


def _excusing(handler: Handler) -> Handler:
    @wraps(handler)
    async def excused(request: Request) -> Response:
        try:
            return await handler(request)
        except LinkInvalid as invalid:
            return page("This link does not work", _INVALID, status_of(invalid))

    return excused


@_excusing
async def checkout(request: Request) -> Response:
    """Asks for the click that pays nothing, or says that it was made."""
    found = await services(request).subscriptions.checkout(_session(request))
    organization = found.details.organization
    if organization.tier is found.tier:
        return page(
            f"{organization.name} is on {found.tier}",
            f"<p>{_usage(found.details)} You can close this page.</p>{_BACK}",
        )
    return page(
        f"Move to {found.tier}",
        f"<p><strong>{escape(organization.name)}</strong> is on {organization.tier}. "
        f"{_usage(found.details)}</p>"
        f"<p>On {found.tier} it may have {_limit(found.tier)}.{_surplus(found.details, found.tier)}"
        " This is a local server: nothing is paid.</p>"
        f"{_button(request, f'Pay nothing and move to {found.tier}')}{_BACK}",
    )


@_excusing
async def pay(request: Request) -> Response:
    """Moves the organization to the tier of its checkout."""
    await services(request).subscriptions.pay(_session(request))
    return see_other(_address(request))


@_excusing
async def portal(request: Request) -> Response:
    """Shows the tier, and every other one to choose."""
    details = await services(request).subscriptions.portal(_session(request))
    organization = details.organization
    tiers = "".join(_choice(request, details, tier) for tier in Tier)
    return page(
        f"{organization.name} is on {organization.tier}",
        f"<p>{_usage(details)} This is a local server: nothing is paid.</p><ul>{tiers}</ul>{_BACK}",
    )


@_excusing
async def choose(request: Request) -> Response:
    """Moves the organization to the tier that was chosen in its portal."""
    chosen = request.query_params.get("tier", "")
    if chosen not in set(Tier):
        raise LinkInvalid
    await services(request).subscriptions.choose(_session(request), Tier(chosen))
    return see_other(_address(request))


def _session(request: Request) -> str:
    return request.query_params.get("session", "")


def _address(request: Request, **more: str) -> str:
    return f"{request.url.path}?{urlencode({'session': _session(request), **more})}"


def _choice(request: Request, details: OrganizationDetails, tier: Tier) -> str:
    words = f"<span><strong>{tier}</strong>: {_limit(tier)}.{_surplus(details, tier)}</span>"
    if tier is details.organization.tier:
        return f'<li aria-current="true">{words} <span>present tier</span></li>'
    return f"<li>{words} {_button(request, f'Move to {tier}', tier=tier)}</li>"


def _button(request: Request, words: str, **more: str) -> str:
    address = escape(_address(request, **more))
    return f'<form method="post" action="{address}"><button>{escape(words)}</button></form>'


def _usage(details: OrganizationDetails) -> str:
    count, limit = details.instance_count, details.instance_limit
    of_limit = "" if limit is None else f" of {limit}"
    return f"{count}{of_limit} {'instance' if (limit or count) == 1 else 'instances'} in use."


def _limit(tier: Tier) -> str:
    limit = tier.instance_limit
    if limit is None:
        return "any number of instances"
    return f"{limit} {'instance' if limit == 1 else 'instances'}"


def _surplus(details: OrganizationDetails, tier: Tier) -> str:
    """What becomes of more instances than a tier allows."""
    limit = tier.instance_limit
    if limit is None or details.instance_count <= limit:
        return ""
    return f" All {details.instance_count} stay, but no new one is made before there is room."


# Whoever has only the link has to sign in there.
_BACK = '<p><a href="/subscription">The subscription on the dashboard</a></p>'

_INVALID = """<p>It has expired, or it is not whole. Ask for a new one with
<code>POST /v1/subscription/checkout</code> or <code>POST /v1/subscription/portal</code>.</p>"""
