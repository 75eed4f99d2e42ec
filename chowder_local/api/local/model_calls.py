"""Handlers: the model calls of agents: as they were made, recorded, and answered by scripts."""

from __future__ import annotations

import asyncio
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from chowder_local.api.schemas.model_calls import (
    ExchangeDetailsView,
    ExchangeQuery,
    ExchangeView,
    RecordingPlayback,
    RecordingQuery,
    RecordingView,
)
from chowder_local.api.schemas.replies import ReplyScriptChange, ScriptView
from chowder_local.core.errors.requests import ExchangeNotFound, InputInvalid
from chowder_local.core.json_paths import written_path
from chowder_local.http.bodies import json_body, parse, parse_query, validated
from chowder_local.http.services import caller, instance_of, services
from chowder_local.relay.recordings.registry import make_recording
from chowder_local.relay.scripts.rules import MAX_BYTES

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.relay.call_log import LoggedCall
    from chowder_local.relay.local_model import SessionName
    from chowder_local.relay.scripts.registry import Owner, Running


async def list_exchanges(request: Request) -> list[ExchangeView]:
    """The instance's latest model calls, the last first; as many as are still in memory."""
    instance = await instance_of(request)
    limit = parse_query(request, ExchangeQuery).limit
    found = islice(services(request).exchanges.of_instance(instance.id), limit)
    return [ExchangeView.of(each, _session(request, each)) for each in found]


async def show_exchange(request: Request) -> ExchangeDetailsView:
    """One model call: the whole request, without headers, and its answer piece by piece."""
    organization_id = caller(request).organization_id
    found = services(request).exchanges.get(organization_id, request.path_params["exchange_id"])
    if found is None:
        raise ExchangeNotFound
    return ExchangeDetailsView.of(found, _session(request, found))


def _session(request: Request, exchange: LoggedCall) -> SessionName | None:
    if exchange.session_key is None or exchange.instance_id is None:
        return None
    return services(request).session_names.find(exchange.instance_id, exchange.session_key)


async def show_recording(request: Request) -> JSONResponse:
    """The instance's latest model calls as a recording: as many as are still in memory.

    Those that failed, or whose answer was longer than a megabyte, are not in it.
    """
    instance = await instance_of(request)
    return await _recording(request, instance, parse_query(request, RecordingQuery).after)


async def put_recording(request: Request) -> JSONResponse:
    """Has the instance's model calls answered from a recording, without any provider.

    A call that it does not have fails, and says what differs from the nearest one.
    """
    instance = await instance_of(request)
    playback = await parse(request, RecordingPlayback)
    services(request).recordings.put(instance.id, dict(sorted(playback.entries.items())))
    return await _recording(request, instance)


async def remove_recording(request: Request) -> None:
    """Leaves the instance's model calls to its models again."""
    services(request).recordings.remove((await instance_of(request)).id)


async def _recording(
    request: Request, instance: Instance, after: str | None = None
) -> JSONResponse:
    known = services(request)
    # The oldest are dropped first: where that one is not there any more, all are after it.
    of_instance = known.exchanges.of_instance(instance.id)
    latest = list(takewhile(lambda each: each.id != after, of_instance))
    view = RecordingView(
        # Megabytes of JSON are read for that.
        entries=await asyncio.to_thread(make_recording, latest[::-1]),
        is_replayed=known.recordings.entries(instance.id) is not None,
    )
    return JSONResponse(view.model_dump(mode="json", exclude_none=True))


async def show_replies(request: Request) -> JSONResponse:
    """The script, how often each of its rules has counted, and what none was about."""
    return _replies(request, await _owner(request))


async def put_replies(request: Request) -> JSONResponse:
    """Puts a script in force from its beginning, in place of the present one.

    Of an instance's rules, its organization's and the server's own (`up --replies`), the first
    that matches counts. A script ends with the server.
    """
    owner = await _owner(request)
    content = await json_body(request, MAX_BYTES)
    # Regular expressions are compiled, which takes its time.
    script = await asyncio.to_thread(_script, content)
    services(request).scripts.put(owner, script)
    return _replies(request, owner)


async def remove_replies(request: Request) -> None:
    """Ends the script, if there is one."""
    services(request).scripts.remove(await _owner(request))


def _script(content: Any) -> ReplyScriptChange:
    """Raises InputInvalid, with places as they are written: without the kinds of a union."""
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
    views = {"own": scripts.of(owner), "server": scripts.own}
    return JSONResponse({name: _running(request, each) for name, each in views.items()})


def _running(request: Request, running: Running | None) -> dict[str, Any] | None:
    if running is None:
        return None
    return ScriptView.of(running, caller(request).organization_id).as_given()
