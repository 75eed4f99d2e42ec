"""Who may call a route: every route needs a key unless the table says otherwise."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from chowder_local.core import request_context
from chowder_local.core.domain import Permission
from chowder_local.core.errors.requests import OrganizationKeyRequired, PermissionMissing
from chowder_local.http.headers import fields_of
from chowder_local.http.services import services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    Handler = Callable[[Request], Awaitable[Response]]


class Access(Enum):
    """What a route asks of the caller's key; a permission is one for the path's instance."""

    ANYONE = "anyone"
    ANY_KEY = "any key"
    ORGANIZATION = "organization"
    READ = Permission.READ
    INTERACT = Permission.INTERACT
    CONFIGURE = Permission.CONFIGURE
    FILES = Permission.FILES
    CHANNELS = Permission.CHANNELS

    @property
    def permission(self) -> Permission | None:
        """What a scoped key needs for the instance that the path names."""
        return self.value if isinstance(self.value, Permission) else None


def guarded(handler: Handler, access: Access, faulty: Handler | None = None) -> Handler:
    """The handler behind its check; `caller` finds who it is.

    Behind a permission `instance` finds the instance, too. While faults are set, `faulty` is
    called in the handler's place.
    """
    if access is Access.ANYONE:
        return handler
    permission = access.permission

    async def checked(request: Request) -> Response:
        known = services(request)
        caller = await known.authentication.caller(_bearer_token(request))
        found = request.scope["state"]
        found["caller"] = caller
        if access is Access.ORGANIZATION and not caller.is_organization_key:
            raise OrganizationKeyRequired
        if permission is not None:
            # First whether it is there: of another organization's nobody learns that it exists.
            instance = await known.directory.get(
                caller.organization_id, request.path_params["instance_id"]
            )
            if not caller.may(permission, instance.id):
                raise PermissionMissing(permission)
            request_context.set_instance(instance.id)
            found["instance"] = instance
        if known.faults.are_set and faulty is not None:
            return await faulty(request)
        return await handler(request)

    return checked


def _bearer_token(request: Request) -> str | None:
    said = fields_of(request.scope).get(b"authorization", b"")
    scheme, _, token = said.decode("latin-1").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
