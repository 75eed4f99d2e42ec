"""The organization: its name, model keys, scoped keys and subscription."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse, RedirectResponse

from chowder_local.api.schemas.accounts import (
    MOST_INSTANCES,
    CheckoutCreation,
    KeyCreation,
    OrganizationChange,
)
from chowder_local.core.domain import ModelProvider, Permission, Tier
from chowder_local.core.errors.requests import LinkInvalid
from chowder_local.dashboard.instances import CHOICES, instance_choices, instance_names
from chowder_local.dashboard.pages import (
    dashboard,
    dialog,
    fields,
    notice,
    page,
    parse_form,
    part,
    parts,
    redirect,
    with_query,
)
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.middleware import note
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import ApiKey

HERE = "/organization"
MACROS = "_organization.html"
PORTION = 50
NAMED = 4
"""How many of a key's instances the page names; it counts the others."""


class KeysQuery(BaseModel):
    before: str | None = Field(None, max_length=64)


class ProviderQuery(BaseModel):
    provider: ModelProvider


class ModelKeyForm(ProviderQuery):
    key: str


@dataclass(frozen=True)
class KeyRow:
    """A scoped key; `instances` are the names of up to NAMED of its instances."""

    key: ApiKey
    permissions: list[Permission]
    instances: list[str]

    @property
    def other_count(self) -> int:
        """The number of instances that are not named."""
        return len(self.key.grants) - len(self.instances)

    @property
    def state(self) -> str:
        if self.key.is_active:
            return "active"
        expires_at = self.key.expires_at
        is_expired = expires_at is not None and expires_at <= datetime.now(UTC)
        return "expired" if is_expired else "revoked"


async def show(request: Request) -> Response:
    """The page; htmx selects a part of it for more keys."""
    organization_id = caller(request).organization_id
    before = parse_query(request, KeysQuery).before
    latest = await services(request).keys.latest(
        organization_id, limit=PORTION + 1, before_id=before
    )
    keys = latest[:PORTION]
    return await page(
        request,
        "organization.html",
        here=HERE,
        details=await services(request).organizations.details(organization_id),
        instances=await instance_choices(request),
        choices=CHOICES,
        keys=await _rows(request, keys),
        more=with_query(HERE, before=keys[-1].id) if len(latest) > PORTION else None,
    )


async def rename(request: Request) -> Response:
    changed = await parse_form(request, OrganizationChange)
    details = await services(request).organizations.change(
        caller(request).organization_id, name=changed.name
    )
    organization = details.organization
    text = f"The organization is now called {organization.name}."
    return notice(request, text, part(request, MACROS, "renamed", organization))


async def set_model_key(request: Request) -> Response:
    """Sets or replaces a provider's key."""
    typed = await parse_form(request, ModelKeyForm)
    return await _change_model_key(request, typed.provider, typed.key, "set")


async def confirm_clear_model_key(request: Request) -> Response:
    provider = parse_query(request, ProviderQuery).provider
    return dialog(request, MACROS, "confirm_clear_model_key", provider)


async def clear_model_key(request: Request) -> Response:
    provider = (await parse_form(request, ProviderQuery)).provider
    return await _change_model_key(request, provider, "", "cleared")


async def create_key(request: Request) -> Response:
    """Creates a scoped key, and shows it this one time."""
    sent = await fields(request, max_count=MOST_INSTANCES + 50)
    filled = {name: value.strip() for name, value in sent if value.strip()}
    typed_ids = re.findall(r"[^\s,]+", filled.get("more_ids", ""))
    creation = {
        "name": filled.get("name"),
        "instance_ids": [value for name, value in sent if name == "instance_ids"] + typed_ids,
        "permissions": [value for name, value in sent if name == "permissions"],
        "expires_at": filled.get("expires_at"),
    }
    valid = validated(KeyCreation, creation, "body").model_dump()
    key, raw_key = await services(request).keys.create(caller(request).organization_id, **valid)
    note(request, key=key.id)
    (row,) = await _rows(request, [key])
    return parts(part(request, MACROS, "new_key", row, raw_key))


async def confirm_revoke(request: Request) -> Response:
    return dialog(request, MACROS, "confirm_revoke", await _find_key(request))


async def revoke_key(request: Request) -> Response:
    key = await _find_key(request)
    await services(request).keys.revoke(key.organization_id, key.id)
    (row,) = await _rows(request, [await _find_key(request)])
    return notice(
        request, f"{key.name} is revoked.", part(request, MACROS, "key_row", row, oob=True)
    )


async def _change_model_key(
    request: Request, provider: ModelProvider, key: str, done: str
) -> Response:
    change = validated(OrganizationChange, {"model_api_keys": {provider: key}}, "body")
    note(request, model_keys=provider)
    details = await services(request).organizations.change(
        caller(request).organization_id, model_api_keys=change.model_api_keys
    )
    is_set = provider in details.organization.model_providers
    changed = part(request, MACROS, "model_key", provider, is_set, oob=True)
    return notice(request, f"The key for {provider} is {done}.", changed)


async def _find_key(request: Request) -> ApiKey:
    return await services(request).keys.get(
        caller(request).organization_id, request.path_params["key_id"]
    )


async def _rows(request: Request, keys: Sequence[ApiKey]) -> list[KeyRow]:
    named = [list(islice(each.grants, NAMED)) for each in keys]
    names = await instance_names(request, {each for ids in named for each in ids})
    rows = []
    for key, ids in zip(keys, named, strict=True):
        granted = {each for permissions in key.grants.values() for each in permissions}
        permissions = [each for each in Permission if each in granted]
        rows.append(KeyRow(key, permissions, [names[each] for each in ids]))
    return rows


LINK_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    # The address alone authorizes, so it must not leak.
    **{name: HEADERS[name] for name in ("Referrer-Policy", "Cache-Control")},
    "X-Content-Type-Options": "nosniff",
}


async def show_subscription(request: Request) -> Response:
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
