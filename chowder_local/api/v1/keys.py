"""Handlers: scoped keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.api.schemas.keys import IssuedKeyView, KeyCreation, KeyDetailsView, KeyView
from chowder_local.http.bodies import parse
from chowder_local.http.request_log import note
from chowder_local.http.responses import array
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


async def create(request: Request) -> IssuedKeyView:
    """A new key for some of the organization's instances. Only this answer has its token."""
    body = await parse(request, KeyCreation)
    organization_id = caller(request).organization_id
    key, raw_key = await services(request).keys.create(organization_id, **body.model_dump())
    note(request, key=key.id)
    return IssuedKeyView.from_key(key, raw_key)


async def index(request: Request) -> Response:
    """The organization's scoped keys, oldest first, with revoked and expired ones.

    The organization key, which cannot be revoked, is not listed.
    """
    keys = services(request).keys.all(caller(request).organization_id)
    return await array(keys, KeyView.model_validate)


async def show(request: Request) -> KeyDetailsView:
    """One key with its permissions."""
    organization_id, key_id = caller(request).organization_id, request.path_params["key_id"]
    return KeyDetailsView.from_key(await services(request).keys.get(organization_id, key_id))


async def revoke(request: Request) -> None:
    """Revokes a key: the next request with it gets a 401. It stays in the list as inactive.

    Streams that have begun go on to their end. Revoking again changes nothing.
    """
    organization_id, key_id = caller(request).organization_id, request.path_params["key_id"]
    await services(request).keys.revoke(organization_id, key_id)
