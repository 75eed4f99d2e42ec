"""Handlers: scoped keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from chowder_local.accounts.keys import KeyDraft
from chowder_local.api.schemas.keys import KeyCreation, KeyDetailsView, KeyView, NewKeyView
from chowder_local.http.audit import note
from chowder_local.http.bodies import parse
from chowder_local.http.json_array import array
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from starlette.requests import Request


async def create(request: Request) -> JSONResponse:
    """A new key for some of the organization's instances; its token is shown this once."""
    body = await parse(request, KeyCreation)
    draft = KeyDraft(**body.model_dump())
    key, raw_key = await services(request).keys.create(caller(request).organization_id, draft)
    note(request, key=key.id)
    return JSONResponse(NewKeyView.of_new(key, raw_key).model_dump(mode="json"), 201)


async def index(request: Request) -> Response:
    """The organization's scoped keys, revoked and expired ones too, oldest first.

    Its own key is not among them: it cannot be revoked.
    """
    found = services(request).keys.all(caller(request).organization_id)
    return await array(found, KeyView.of)


async def show(request: Request) -> JSONResponse:
    """One key, with what it may do."""
    key = await services(request).keys.get(
        caller(request).organization_id, request.path_params["key_id"]
    )
    return JSONResponse(KeyDetailsView.of(key).model_dump(mode="json"))


async def revoke(request: Request) -> Response:
    """Ends a key: the next request with it gets a 401. It stays in the list as inactive.

    An answer that is streaming goes on to its end. Revoking again changes nothing.
    """
    await services(request).keys.revoke(
        caller(request).organization_id, request.path_params["key_id"]
    )
    return Response(status_code=204)
