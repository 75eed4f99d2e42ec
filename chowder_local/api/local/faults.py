"""Handlers: faults, which tests set and take back."""

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

    A call takes one fault, the one that was set first. It is authenticated, permitted and found
    valid before that. Faults are gone once they are used up, and when the server ends.
    """
    return FaultView.of(await set_fault(request, await parse(request, FaultCreation)))


async def index(request: Request) -> list[FaultView]:
    """The organization's faults that are not used up, in the order in which they were set."""
    found = services(request).faults.of(caller(request).organization_id)
    return [FaultView.of(each) for each in found]


async def remove(request: Request) -> None:
    """Takes one fault back."""
    organization_id, fault_id = caller(request).organization_id, request.path_params["fault_id"]
    services(request).faults.remove(organization_id, fault_id)


async def clear(request: Request) -> None:
    """Takes all of the organization's faults back."""
    services(request).faults.clear(caller(request).organization_id)


async def set_fault(request: Request, creation: FaultCreation) -> Fault:
    """Sets one for the caller's organization. Raises InputInvalid, InstanceNotFound, FaultsFull."""
    draft = creation.draft()
    _check_path(request, draft)
    organization_id = caller(request).organization_id
    if draft.instance_id is not None:
        await services(request).directory.get(organization_id, draft.instance_id)
    return services(request).faults.add(organization_id, draft)


def _check_path(request: Request, draft: FaultDraft) -> None:
    """Raises InputInvalid for a fault that no request would ever match."""
    anywhere = replace(draft, instance_id=None)
    if draft.path is None or any(matches(anywhere, each) for each in _calls(request.app.routes)):
        return
    message = (
        "Value error, No call that needs a key has such a method and path. Paths are those of "
        "/openapi.json, such as /v1/instances/{instance_id}/files; * stands for any part"
    )
    raise InputInvalid([{"loc": ["body", "path"], "msg": message, "type": "value_error"}])


def _calls(routes: Iterable[BaseRoute]) -> Iterator[Call]:
    """Every request that a fault can be injected into."""
    for route in routes:
        if isinstance(route, Route) and isinstance(route.endpoint, OperationsEndpoint):
            for each in route.endpoint.operations:
                yield Call(kinds_of(each), each.method, each.template)
