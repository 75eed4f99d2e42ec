"""Handlers: beginning anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from chowder_local.api.schemas.faults import ResetView
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from starlette.requests import Request


async def reset(request: Request) -> JSONResponse:
    """Removes the organization's instances with all their data, and what was made for them.

    That is its scoped keys, faults, snapshots and scripted replies.

    The organization, its own key, its model keys and its tier stay, and other organizations are
    not touched. The answer comes when all is gone.
    """
    removed = await services(request).organization_reset.reset(caller(request).organization_id)
    return JSONResponse(ResetView(**vars(removed)).model_dump(mode="json"))
