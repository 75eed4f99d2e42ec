"""Handlers: signing up, and what an organization is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from chowder_local.api.schemas.organization import (
    OrganizationChange,
    OrganizationView,
    Signup,
    SignupView,
)
from chowder_local.http.audit import note
from chowder_local.http.bodies import parse
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from starlette.requests import Request


async def signup(request: Request) -> JSONResponse:
    """Makes an organization and its key, which is shown this once."""
    body = await parse(request, Signup)
    details, api_key = await services(request).organizations.signup(body.name)
    view = SignupView(organization=OrganizationView.of(details), api_key=api_key)
    return JSONResponse(view.model_dump(mode="json"), 201)


async def show(request: Request) -> JSONResponse:
    """The caller's organization."""
    details = await services(request).organizations.details(caller(request).organization_id)
    return JSONResponse(OrganizationView.of(details).model_dump(mode="json"))


async def change(request: Request) -> JSONResponse:
    """Renames the organization, sets or removes model keys."""
    body = await parse(request, OrganizationChange)
    if body.model_api_keys:
        note(request, model_keys="+".join(sorted(body.model_api_keys)))
    details = await services(request).organizations.change(
        caller(request).organization_id, name=body.name, model_api_keys=body.model_api_keys
    )
    return JSONResponse(OrganizationView.of(details).model_dump(mode="json"))
