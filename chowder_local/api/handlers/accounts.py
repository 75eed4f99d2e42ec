"""Handlers: organizations, their tier, and scoped keys."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.responses import Response

from chowder_local.api.schemas.accounts import (
    CheckoutCreation,
    IssuedKeyView,
    KeyCreation,
    KeyDetailsView,
    KeyView,
    LinkView,
    LocalOrganizationChange,
    LocalOrganizationView,
    OrganizationChange,
    OrganizationView,
    Signup,
    SignupView,
    SubscriptionView,
)
from chowder_local.http.bodies import parse
from chowder_local.http.middleware import OFFLINE_PROVIDERS_HEADER, note
from chowder_local.http.responses import array
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from starlette.requests import Request


async def sign_up(request: Request) -> SignupView:
    """Creates an organization and its key, which no other answer has."""
    body = await parse(request, Signup)
    details, api_key = await services(request).organizations.signup(body.name)
    return SignupView(organization=OrganizationView.from_details(details), api_key=api_key)


async def get_organization(request: Request) -> Response:
    """The caller's organization. A header has the providers whose key is `offline`."""
    details = await services(request).organizations.details(caller(request).organization_id)
    view = OrganizationView.from_details(details)
    # The providers are in a header, because the hosted service defines the body.
    headers = {OFFLINE_PROVIDERS_HEADER: ",".join(details.offline_providers)}
    return Response(view.model_dump_json(), headers=headers, media_type="application/json")


async def update_organization(request: Request) -> OrganizationView:
    """Renames the organization, or sets or removes model keys."""
    body = await parse(request, OrganizationChange)
    if body.model_api_keys:
        note(request, model_keys="+".join(sorted(body.model_api_keys)))
    details = await services(request).organizations.change(
        caller(request).organization_id, name=body.name, model_api_keys=body.model_api_keys
    )
    return OrganizationView.from_details(details)


async def get_subscription(request: Request) -> SubscriptionView:
    """The organization's tier, and how many of its instances are used."""
    details = await services(request).organizations.details(caller(request).organization_id)
    return SubscriptionView.from_details(details)


async def create_checkout(request: Request) -> LinkView:
    """A link to a page of this server where one click changes the tier; nothing is paid."""
    body = await parse(request, CheckoutCreation)
    session = services(request).subscriptions.checkout_session(
        caller(request).organization_id, body.tier
    )
    return _link(request, "checkout", session)


async def create_portal(request: Request) -> LinkView:
    """A link to a page of this server where any tier can be chosen."""
    session = services(request).subscriptions.portal_session(caller(request).organization_id)
    return _link(request, "portal", session)


def _link(request: Request, page: str, session: str) -> LinkView:
    # The host that the client used: the server may not know it.
    return LinkView(url=f"{request.base_url}local/{page}?{urlencode({'session': session})}")


async def create_key(request: Request) -> IssuedKeyView:
    """A new key for some of the organization's instances. Only this answer has its token."""
    body = await parse(request, KeyCreation)
    organization_id = caller(request).organization_id
    key, raw_key = await services(request).keys.create(organization_id, **body.model_dump())
    note(request, key=key.id)
    return IssuedKeyView.from_key(key, raw_key)


async def list_keys(request: Request) -> Response:
    """The organization's scoped keys, oldest first, with revoked and expired ones.

    The organization key, which cannot be revoked, is not listed.
    """
    keys = services(request).keys.all(caller(request).organization_id)
    return await array(keys, KeyView.model_validate)


async def get_key(request: Request) -> KeyDetailsView:
    """One key with its permissions."""
    organization_id, key_id = caller(request).organization_id, request.path_params["key_id"]
    return KeyDetailsView.from_key(await services(request).keys.get(organization_id, key_id))


async def revoke_key(request: Request) -> None:
    """Revokes a key: the next request with it gets a 401. It stays in the list as inactive.

    Streams that have begun go on to their end. Revoking again changes nothing.
    """
    organization_id, key_id = caller(request).organization_id, request.path_params["key_id"]
    await services(request).keys.revoke(organization_id, key_id)


async def get_organization_settings(request: Request) -> LocalOrganizationView:
    """The settings of the organization that only the local server has."""
    details = await services(request).organizations.details(caller(request).organization_id)
    return LocalOrganizationView.from_organization(details.organization)


async def set_organization_settings(request: Request) -> LocalOrganizationView:
    """Sets whether deleted agents leave their sandboxes to the organization's next ones.

    Such a sandbox has nothing of the former agent in its files and databases, but its memory may.
    """
    organization_id = caller(request).organization_id
    body = await parse(request, LocalOrganizationChange)
    is_on = body.reuses_sandboxes
    note(request, reuses_sandboxes=str(is_on).lower())
    details = await services(request).organizations.set_reuse(
        organization_id, reuses_sandboxes=is_on
    )
    if not is_on:
        await services(request).recycling.discard_all(organization_id)
    return LocalOrganizationView.from_organization(details.organization)
