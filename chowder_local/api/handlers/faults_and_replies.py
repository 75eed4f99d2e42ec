"""Handlers: faults, scripted replies, recordings and breakpoints, by which tests arrange things."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from chowder_local.api.endpoints import OperationsEndpoint
from chowder_local.api.fault_injection import kinds_of
from chowder_local.api.schemas.faults_and_replies import (
    FaultCreation,
    FaultView,
    ReplyScriptChange,
    ScriptView,
)
from chowder_local.api.schemas.history import RecordingPlayback, RecordingQuery, RecordingView
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.core.fault_injection import Call, matches
from chowder_local.core.untrusted_json import written_path
from chowder_local.http.bodies import json_body, parse, parse_query, validated
from chowder_local.http.responses import json_in_thread
from chowder_local.http.services import caller, instance_of, services
from chowder_local.relay import call_log
from chowder_local.relay.call_log import make_recording
from chowder_local.relay.scripts.rules import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from chowder_local.core.domain import Instance
    from chowder_local.core.fault_injection import Fault, FaultDraft
    from chowder_local.relay.scripts.registry import ActiveScript, Owner


async def create_fault(request: Request) -> FaultView:
    """Sets a fault: the organization's next calls of a kind fail, wait, or break off.

    A call takes one fault, the oldest that matches, once its key and its body are found valid. A
    fault is gone when it is used up, and when the server stops.
    """
    return FaultView.from_fault(await set_fault(request, await parse(request, FaultCreation)))


async def list_faults(request: Request) -> list[FaultView]:
    """The organization's faults that are not used up, in the order in which they were set."""
    faults = services(request).faults.of_organization(caller(request).organization_id)
    return [FaultView.from_fault(each) for each in faults]


async def delete_fault(request: Request) -> None:
    """Removes one fault."""
    organization_id, fault_id = caller(request).organization_id, request.path_params["fault_id"]
    services(request).faults.remove(organization_id, fault_id)


async def delete_faults(request: Request) -> None:
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


async def get_recording(request: Request) -> Response:
    """The instance's model calls that are still in memory, as a recording.

    Calls that failed, or whose answer is longer than a megabyte, are left out.
    """
    instance = await instance_of(request)
    return await _recording(request, instance, parse_query(request, RecordingQuery).after)


async def set_recording(request: Request) -> Response:
    """Answers the instance's model calls from a recording, without any provider.

    A call that the recording lacks fails, and the error says what differs from the nearest one;
    with `in_order`, the entries answer the next calls of a session whatever these ask. A recording
    may have 32 MB, as the log of model calls has.
    """
    instance = await instance_of(request)
    content = await json_body(request, call_log.MAX_BYTES)
    playback = validated(RecordingPlayback, content, "body")
    await services(request).recordings.put(
        instance.id,
        dict(sorted(playback.entries.items())),
        in_order=playback.in_order or playback.then_live,
        then_live=playback.then_live,
    )
    return await _recording(request, instance)


async def delete_recording(request: Request) -> None:
    """Ends the replay: the instance's models answer again."""
    services(request).recordings.remove((await instance_of(request)).id)


async def _recording(request: Request, instance: Instance, after: str | None = None) -> Response:
    log, recordings = services(request).call_log, services(request).recordings
    # The log drops its oldest calls: if it has dropped `after`, all of its calls are later.
    latest = list(takewhile(lambda each: each.id != after, log.of_instance(instance.id)))
    is_replayed = recordings.entries(instance.id) is not None

    def make() -> dict[str, Any]:
        view = RecordingView(entries=make_recording(latest[::-1]), is_replayed=is_replayed)
        return view.model_dump(mode="json", exclude_none=True)

    return await json_in_thread(make)


async def get_replies(request: Request) -> JSONResponse:
    """The script, how often each of its rules was used, and the calls that no rule matched."""
    return _replies(request, await _owner(request))


async def set_replies(request: Request) -> JSONResponse:
    """Sets the reply script, and counts its rules' uses from 0.

    An instance's rules come before its organization's, and those before the server's own
    (`up --replies`); the first that matches applies. The script is lost when the server stops.
    """
    owner = await _owner(request)
    content = await json_body(request, MAX_BYTES)
    # It compiles regular expressions, which may be slow.
    script = await asyncio.to_thread(_script, content)
    services(request).scripts.put(owner, script)
    return _replies(request, owner)


async def delete_replies(request: Request) -> None:
    """Removes the script, if there is one."""
    services(request).scripts.remove(await _owner(request))


def _script(content: Any) -> ReplyScriptChange:
    """Validates a script. Raises InputInvalid with locations as the user wrote them."""
    try:
        return validated(ReplyScriptChange, content, "body")
    except InputInvalid as invalid:
        for problem in invalid.problems:
            path = written_path(content, problem["loc"][1:], problem["type"])
            problem["loc"] = ["body", *path]
        raise


async def _owner(request: Request) -> Owner:
    if "instance_id" in request.path_params:
        return (await instance_of(request)).id
    return caller(request).organization_id


def _replies(request: Request, owner: Owner) -> JSONResponse:
    scripts = services(request).scripts
    views = {"own": scripts.get(owner), "server": scripts.own}
    return JSONResponse({name: _running(request, each) for name, each in views.items()})


def _running(request: Request, running: ActiveScript | None) -> dict[str, Any] | None:
    if running is None:
        return None
    return ScriptView.from_running(running, caller(request).organization_id).to_json()
