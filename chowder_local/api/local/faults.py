"""Handlers: fault injection."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.routing import Route

from chowder_local.api.endpoints import OperationsEndpoint
from chowder_local.api.fault_injection import kinds_of
from chowder_local.api.schemas.faults import FaultCreation, FaultView
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.core.fault_injection import Call, matches
from chowder_local.http.bodies import parse
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from chowder_local.core.fault_injection import Fault, FaultDraft


async def add(request: Request) -> FaultView:
    """Sets a fault: the organization's next calls of a kind fail, wait, or break off.

    A call takes one fault, the oldest that matches, once its key and its body are found valid. A
    fault is gone when it is used up, and when the server stops.
    """
    return FaultView.from_fault(await set_fault(request, await parse(request, FaultCreation)))


async def index(request: Request) -> list[FaultView]:
    """The organization's faults that are not used up, in the order in which they were set."""
    faults = services(request).faults.of_organization(caller(request).organization_id)
    return [FaultView.from_fault(each) for each in faults]


async def remove(request: Request) -> None:
    """Removes one fault."""
    organization_id, fault_id = caller(request).organization_id, request.path_params["fault_id"]
    services(request).faults.remove(organization_id, fault_id)


async def clear(request: Request) -> None:
    """Removes all of the organization's faults."""
    services(request).faults.clear(caller(request).organization_id)


async def set_fault(request: Request, creation: FaultCreation) -> Fault:
    """Sets a fault for the caller's organization.

    Raises InputInvalid if its path matches no call, InstanceNotFound if its instance does not
    exist, and FaultsFull if there are too many faults.
    """
    draft = creation.draft()
    _check_path(request, draft)
    organization_id = caller(request).organization_id
    if draft.instance_id is not None:
        await services(request).directory.get(organization_id, draft.instance_id)
    return services(request).faults.add(organization_id, draft)


def _check_path(request: Request, draft: FaultDraft) -> None:
    """Raises InputInvalid if no request can match the fault."""
    anywhere = replace(draft, instance_id=None)
    if draft.path is None or any(matches(anywhere, each) for each in _calls(request.app.routes)):
        return
    message = (
        "Value error, No call that needs a key has this method and path. Use a path of "
        "/openapi.json, such as /v1/instances/{instance_id}/files; * stands for any part"
    )
    raise InputInvalid([{"loc": ["body", "path"], "msg": message, "type": "value_error"}])


def _calls(routes: Iterable[BaseRoute]) -> Iterator[Call]:
    """Every request that a fault can be injected into."""
    for route in routes:
        if isinstance(route, Route) and isinstance(route.endpoint, OperationsEndpoint):
            for each in route.endpoint.operations:
                yield Call(kinds_of(each), each.method, each.template)
