"""What handlers reach through a request: services, the caller, the instance, header fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from chowder_local.core import logs
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from starlette.requests import Request
    from starlette.types import Scope

    from chowder_local.core.domain import Caller, Instance
    from chowder_local.services import Services

Kind = TypeVar("Kind")


def fields_of(scope: Scope) -> Mapping[bytes, bytes]:
    """The fields by name in lower case; the values of a repeated field are joined by a comma.

    Of two values that differ it is unclear which one counts, so that neither is taken.
    """
    if (fields := scope.get("fields")) is None:
        fields = dict(scope["headers"])
        if len(fields) < len(scope["headers"]):
            fields = {}
            for name, value in scope["headers"]:
                fields[name] = fields[name] + b", " + value if name in fields else value
        scope["fields"] = fields
    return cast("Mapping[bytes, bytes]", fields)


def services(request: Request) -> Services:
    return cast("Services", request.scope["state"]["services"])


def service(request: Request, kind: type[Kind]) -> Kind:
    """A feature's service, by its class."""
    return services(request).feature(kind)


def caller(request: Request) -> Caller:
    """The request's caller; only set on routes that need a key."""
    return cast("Caller", request.scope["state"]["caller"])


def instance(request: Request) -> Instance:
    """The instance that the path names; only set on routes that need a permission."""
    return cast("Instance", request.scope["state"]["instance"])


def exits(request: Request) -> AsyncExitStack:
    """Closes what a handler enters, once the response is sent."""
    return cast("AsyncExitStack", request.scope["state"]["exits"])


def require_living(instance: Instance | None) -> Instance:
    """The instance. Raises InstanceNotFound if there is none, or if it is deleted."""
    if instance is None or instance.status is InstanceStatus.TERMINATED:
        raise InstanceNotFound
    return instance


def require_running(instance: Instance) -> None:
    """Raises InstanceStateWrong if the instance does not run."""
    if instance.status is not InstanceStatus.RUNNING:
        raise InstanceStateWrong(instance.status, InstanceStatus.RUNNING, instance.error_message)


async def running_instance(request: Request) -> Instance:
    """The instance that the path names, as `running`."""
    return await running(request, instance(request))


async def running(request: Request, instance: Instance) -> Instance:
    """The instance, held in memory until the response is sent.

    Raises InstanceStateWrong if it does not run, and what brings a hibernated one back raises.
    """
    using = services(request).residency.using(instance)
    return await exits(request).enter_async_context(using)


async def running_instance_of(request: Request) -> Instance:
    """As `instance_of`, and `running`."""
    return await running(request, await instance_of(request))


async def instance_of(request: Request) -> Instance:
    """The instance that the path names, for a caller with an organization key.

    Adds its id to the request's log lines. Raises InstanceNotFound if the organization has none.
    """
    instance = await services(request).directory.get(
        caller(request).organization_id, request.path_params["instance_id"]
    )
    logs.set_instance(instance.id)
    return instance
