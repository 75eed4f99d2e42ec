"""The calls of breakpoints: their rows of the route table, and their handlers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chowder_local.api.access import Access
from chowder_local.api.operations import Operation
from chowder_local.api.schemas.history import ModelCallView
from chowder_local.core.domain import InstanceId
from chowder_local.features.breakpoints.model import (
    BreakpointMatch,
    BreakpointSetting,
    BreakpointView,
    HeldCallRelease,
    HeldCallsQuery,
    HeldCallView,
)
from chowder_local.features.breakpoints.service import Breakpoints
from chowder_local.http.bodies import json_body, parse, parse_query, validated
from chowder_local.http.responses import while_connected
from chowder_local.http.services import caller, instance_of, service, services
from chowder_local.relay.scripts.rules import MAX_BYTES

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.features.breakpoints.service import HeldCall


async def get_breakpoint(request: Request) -> BreakpointView:
    """The instance's breakpoint."""
    instance = await instance_of(request)
    return BreakpointView.model_validate(service(request, Breakpoints).get(instance.id))


async def set_breakpoint(request: Request) -> BreakpointView:
    """Holds the model calls of the instance that match, until somebody lets each go on.

    A call is held for 10 minutes at most, and then refused. It replaces a former breakpoint, and
    ends with the server.
    """
    instance = await instance_of(request)
    content = await json_body(request, MAX_BYTES)
    # It compiles regular expressions, which may be slow.
    setting = await asyncio.to_thread(validated, BreakpointSetting, content, "body")
    match = setting.match or BreakpointMatch()
    found = service(request, Breakpoints).put(instance.id, match, once=setting.once)
    return BreakpointView.model_validate(found)


async def delete_breakpoint(request: Request) -> None:
    """Removes the instance's breakpoint, if it has one. Calls that are held stay held."""
    service(request, Breakpoints).remove((await instance_of(request)).id)


async def list_held_calls(request: Request) -> list[HeldCallView]:
    """The organization's model calls that are held, the longest held first."""
    query = parse_query(request, HeldCallsQuery)
    instance_id = None if query.instance_id is None else InstanceId(query.instance_id)
    organization_id, breakpoints = caller(request).organization_id, service(request, Breakpoints)
    if instance_id is not None:
        await services(request).directory.get(organization_id, instance_id)
    held = await while_connected(
        request, lambda: breakpoints.wait_for_held(organization_id, instance_id, query.wait_s)
    )
    return [_held_call(request, each) for each in held or ()]


async def resume_call(request: Request) -> HeldCallView:
    """Lets a held model call go on: as it is, with another body, or with an answer instead."""
    body = await parse(request, HeldCallRelease)
    organization_id, call_id = caller(request).organization_id, request.path_params["model_call_id"]
    held = service(request, Breakpoints).resume(organization_id, call_id, body.release)
    return _held_call(request, held)


def _held_call(request: Request, held: HeldCall) -> HeldCallView:
    key = held.call.session_key
    names = services(request).session_names
    session = None if key is None else names.find(held.instance_id, key)
    summary = ModelCallView.from_call(held.call, session)
    return HeldCallView(**summary.model_dump(), held_at=held.held_at, until=held.until)


OPERATIONS = (
    Operation(
        "GET",
        "/local/instances/{instance_id}/breakpoint",
        get_breakpoint,
        Access.ORGANIZATION,
        "getBreakpoint",
        "Show an instance's breakpoint",
        answer=BreakpointView,
    ),
    Operation(
        "PUT",
        "/local/instances/{instance_id}/breakpoint",
        set_breakpoint,
        Access.ORGANIZATION,
        "setBreakpoint",
        "Set an instance's breakpoint",
        body=BreakpointSetting,
        answer=BreakpointView,
        tool="set_breakpoint",
    ),
    Operation(
        "DELETE",
        "/local/instances/{instance_id}/breakpoint",
        delete_breakpoint,
        Access.ORGANIZATION,
        "deleteBreakpoint",
        "Remove an instance's breakpoint",
        status=204,
        python="remove_breakpoint",
        tool="remove_breakpoint",
    ),
    Operation(
        "GET",
        "/local/held-calls",
        list_held_calls,
        Access.ORGANIZATION,
        "listHeldCalls",
        "List held model calls",
        answer=[HeldCallView],
        errors=(404,),
        query=HeldCallsQuery,
        tool="list_held_calls",
    ),
    Operation(
        "POST",
        "/local/held-calls/{model_call_id}/resume",
        resume_call,
        Access.ORGANIZATION,
        "resumeCall",
        "Let a held model call go on",
        body=HeldCallRelease,
        answer=HeldCallView,
        errors=(404,),
        tool="resume_call",
        max_body_bytes=None,
    ),
)
