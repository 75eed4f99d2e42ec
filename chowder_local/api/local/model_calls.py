"""Handlers: the call log, recordings and scripted replies."""

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
from chowder_local.core.untrusted_json import written_path
from chowder_local.http.bodies import json_body, parse_query, validated
from chowder_local.http.responses import json_in_thread
from chowder_local.http.services import caller, instance_of, services
from chowder_local.relay import call_log
from chowder_local.relay.recordings.registry import make_recording
from chowder_local.relay.scripts.rules import MAX_BYTES

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.relay.call_log import LoggedCall
    from chowder_local.relay.local_model import SessionName
    from chowder_local.relay.scripts.registry import ActiveScript, Owner


async def list_exchanges(request: Request) -> Response:
    """The instance's model calls that are still in memory, latest first."""
    instance = await instance_of(request)
    limit = parse_query(request, ExchangeQuery).limit
    latest = list(islice(services(request).call_log.of_instance(instance.id), limit))
    return await json_in_thread(
        lambda: [ExchangeView.from_call(each, _session(request, each)) for each in latest]
    )


async def show_exchange(request: Request) -> Response:
    """One model call: the request without its headers, and the answer in the chunks that came."""
    organization_id = caller(request).organization_id
    call = services(request).call_log.get(organization_id, request.path_params["exchange_id"])
    if call is None:
        raise ExchangeNotFound
    return await json_in_thread(
        lambda: ExchangeDetailsView.from_call(call, _session(request, call))
    )


def _session(request: Request, call: LoggedCall) -> SessionName | None:
    if call.session_key is None or call.instance_id is None:
        return None
    return services(request).session_names.find(call.instance_id, call.session_key)


async def show_recording(request: Request) -> Response:
    """The instance's model calls that are still in memory, as a recording.

    Calls that failed, or whose answer is longer than a megabyte, are left out.
    """
    instance = await instance_of(request)
    return await _recording(request, instance, parse_query(request, RecordingQuery).after)


async def put_recording(request: Request) -> Response:
    """Answers the instance's model calls from a recording, without any provider.

    A call that the recording lacks fails, and the error says what differs from the nearest one. A
    recording may have 32 MB, as the log of model calls has.
    """
    instance = await instance_of(request)
    content = await json_body(request, call_log.MAX_BYTES)
    playback = validated(RecordingPlayback, content, "body")
    await services(request).recordings.put(instance.id, dict(sorted(playback.entries.items())))
    return await _recording(request, instance)


async def remove_recording(request: Request) -> None:
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


async def show_replies(request: Request) -> JSONResponse:
    """The script, how often each of its rules was used, and the calls that no rule matched."""
    return _replies(request, await _owner(request))


async def put_replies(request: Request) -> JSONResponse:
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


async def remove_replies(request: Request) -> None:
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
