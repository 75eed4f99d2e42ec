"""Who may call a route: every route needs a key unless the table says otherwise."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from chowder_local.errors import OrganizationKeyRequired
from chowder_local.web.state import services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    Handler = Callable[[Request], Awaitable[Response]]


class Access(Enum):
    """What a route asks of the caller's key."""

    ANYONE = "anyone"
    ORGANIZATION = "organization"


def guarded(handler: Handler, access: Access) -> Handler:
    """The handler behind its check; it finds the caller in `request.state`."""
    if access is Access.ANYONE:
        return handler

    async def checked(request: Request) -> Response:
        caller = await services(request).authentication.caller(_bearer_token(request))
        if not caller.is_organization_key:
            raise OrganizationKeyRequired
        request.state.caller = caller
        return await handler(request)

    return checked


def _bearer_token(request: Request) -> str | None:
    header: str = request.headers.get("Authorization", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        return None
    return token.strip() or None
