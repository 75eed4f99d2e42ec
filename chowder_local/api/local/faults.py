"""Handlers: faults, which tests set and take back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from chowder_local.api.fault_injection import may_befall
from chowder_local.api.schemas.faults import FaultCreation, FaultView
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.http.bodies import parse
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.core.fault_injection import Fault, FaultDraft


async def add(request: Request) -> JSONResponse:
    """Sets a fault: the organization's next calls of a kind fail, wait, or break off.

    A call takes one fault, the one that was set first. It is authenticated, permitted and found
    valid before that. Faults are gone once they are used up, and when the server ends.
    """
    fault = await set_fault(request, await parse(request, FaultCreation))
    return JSONResponse(FaultView.of(fault).model_dump(mode="json"), 201)


async def index(request: Request) -> JSONResponse:
    """The organization's faults that are not used up, in the order in which they were set."""
    found = services(request).faults.of(caller(request).organization_id)
    return JSONResponse([FaultView.of(each).model_dump(mode="json") for each in found])


async def remove(request: Request) -> Response:
    """Takes one fault back."""
    asking, fault_id = caller(request).organization_id, request.path_params["fault_id"]
    services(request).faults.remove(asking, fault_id)
    return Response(status_code=204)


async def clear(request: Request) -> Response:
    """Takes all of the organization's faults back."""
    services(request).faults.clear(caller(request).organization_id)
    return Response(status_code=204)


async def set_fault(request: Request, asked: FaultCreation) -> Fault:
    """Sets one for the caller's organization. Raises InputInvalid, InstanceNotFound, FaultsFull."""
    draft = asked.draft()
    _check_path(draft)
    known, asking = services(request), caller(request).organization_id
    if draft.instance_id is not None:
        await known.directory.get(asking, draft.instance_id)
    return known.faults.add(asking, draft)


def _check_path(draft: FaultDraft) -> None:
    """Raises InputInvalid for what would never happen."""
    # The table has this module's handlers in it.
    from chowder_local.api.routes import OPERATIONS

    if draft.path is None or any(may_befall(each, draft.method, draft.path) for each in OPERATIONS):
        return
    words = (
        "Value error, No call that needs a key has such a method and path. Paths are those of "
        "/openapi.json, such as /v1/instances/{instance_id}/files; * stands for any part"
    )
    raise InputInvalid([{"loc": ["body", "path"], "msg": words, "type": "value_error"}])
