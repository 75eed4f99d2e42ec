"""Access to routes: each needs a key unless the route table says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.domain import InstanceStatus, Permission
from chowder_local.core.errors.requests import (
    InstanceNotFound,
    OrganizationKeyRequired,
    PermissionMissing,
)
from chowder_local.http.services import fields_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from chowder_local.core.domain import Caller
    from chowder_local.services import Services


class Access(Enum):
    """The key that a route needs; a permission is for the instance that the path names."""

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
        """The permission that a scoped key needs for the instance that the path names."""
        return self.value if isinstance(self.value, Permission) else None


@dataclass(eq=False, repr=False)
class Authorization:
    """ASGI middleware of a route that needs a key: checks it, and sets `caller` in the state.

    On a route that needs a permission it sets `instance`, too.
    """

    app: ASGIApp
    access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        services: Services = state["services"]
        caller = state["caller"] = await services.authentication.caller(_bearer_token(scope))
        if self.access is Access.ORGANIZATION and not caller.is_organization_key:
            raise OrganizationKeyRequired
        try:
            await self._serve(scope, receive, send)
        except InstanceNotFound:
            name: str = scope["path_params"].get("instance_id", "")
            raise InstanceNotFound(name, await services.directory.ids_of(caller, name)) from None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        services: Services = state["services"]
        caller: Caller = state["caller"]
        permission = self.access.permission
        if permission is not None:
            # Another organization's instance is a 404, not a 403, so that it stays unknown.
            instance = await services.directory.get(
                caller.organization_id, scope["path_params"]["instance_id"]
            )
            if not caller.may(permission, instance.id):
                if instance.status is InstanceStatus.TERMINATED:
                    # A scoped key lost its permission for the instance when the instance was
                    # deleted.
                    raise InstanceNotFound
                raise PermissionMissing(permission)
            logs.set_instance(instance.id)
            state["instance"] = instance
        await self.app(scope, receive, send)


def _bearer_token(scope: Scope) -> str | None:
    authorization = fields_of(scope).get(b"authorization", b"")
    scheme, _, token = authorization.decode("latin-1").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
