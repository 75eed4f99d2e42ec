"""Handlers: what agents did, as transcripts, traces and model calls, and what it cost."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from chowder_local.api.handlers.responses import session_of
from chowder_local.api.schemas.accounts import UsageQuery, UsageReportView
from chowder_local.api.schemas.history import (
    KeyedTranscriptQuery,
    ModelCallDetailsView,
    ModelCallQuery,
    ModelCallView,
    RunFileQuery,
    SessionsView,
    TraceDetailsView,
    TraceQuery,
    TraceView,
    TranscriptQuery,
    TranscriptView,
)
from chowder_local.core.errors.agents import TraceNotFound
from chowder_local.core.errors.requests import ModelCallNotFound
from chowder_local.http.bodies import parse_query
from chowder_local.http.responses import json_in_thread
from chowder_local.http.services import caller, instance_of, services
from chowder_local.openclaw.session_keys import session_key
from chowder_local.relay.turn_steps import steps_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.instances.conversations.trace_log import TracedTurn
    from chowder_local.relay.call_log import ModelCall
    from chowder_local.relay.local_model import SessionName


async def list_sessions(request: Request) -> Response:
    """The agent's sessions, whether it runs or is stopped."""
    reader = services(request).conversation_reader
    listed = await reader.sessions(await instance_of(request))
    return await json_in_thread(lambda: SessionsView.model_validate({"sessions": listed}))


async def read_transcript(request: Request) -> Response:
    """The transcript of the main session, or of the session with OpenClaw's `key`."""
    query = parse_query(request, KeyedTranscriptQuery)
    return await _transcript(request, query.key, query)


async def read_session_transcript(request: Request) -> Response:
    """The transcript of a named session."""
    query = parse_query(request, TranscriptQuery)
    return await _transcript(request, session_key(session_of(request)), query)


async def get_usage(request: Request) -> Response:
    """The cost of the organization's model calls, with those of deleted instances."""
    query = parse_query(request, UsageQuery)
    cost_reports = services(request).cost_reports
    report = await cost_reports.report(caller(request).organization_id, limit=query.limit)
    return await json_in_thread(lambda: UsageReportView.from_report(report))


async def get_instance_usage(request: Request) -> Response:
    """The cost of the instance's model calls."""
    query = parse_query(request, UsageQuery)
    instance = await instance_of(request)
    cost_reports = services(request).cost_reports
    report = await cost_reports.report(instance.organization_id, instance.id, limit=query.limit)
    return await json_in_thread(lambda: UsageReportView.from_report(report))


async def _transcript(request: Request, key: str, query: TranscriptQuery) -> Response:
    instance = await instance_of(request)
    transcript = await services(request).conversation_reader.transcript(
        instance, key, limit=query.limit, before=query.before
    )
    return await json_in_thread(lambda: TranscriptView.model_validate(transcript))


async def list_traces(request: Request) -> list[TraceView]:
    """The instance's turns that are still in memory, latest first."""
    instance = await instance_of(request)
    limit = parse_query(request, TraceQuery).limit
    latest = islice(services(request).traces.of_instance(instance.id), limit)
    return [TraceView.from_turn(each, _session(request, each)) for each in latest]


async def get_trace(request: Request) -> Response:
    """What the agent did in one turn: its model calls and the tools that it ran."""
    instance = await instance_of(request)
    turn = services(request).traces.get(instance.id, request.path_params["response_id"])
    if turn is None:
        raise TraceNotFound
    call_log, organization_id = services(request).call_log, instance.organization_id
    found = (call_log.get(organization_id, each) for each in turn.model_call_ids)
    calls = [call for call in found if call is not None]
    session = _session(request, turn)
    # Requests of long conversations take time to parse.
    return await json_in_thread(
        lambda: TraceDetailsView.from_steps(turn, session, steps_of(calls, turn.at))
    )


async def get_run(request: Request) -> Response:
    """What an agent did in a turn, a session or altogether, as one file: messages, model calls and
    their answers, as far as they are in memory.

    A run is named by the id of a turn or its answer or the beginning of that; by an agent's id or
    name; by `AGENT:SESSION`, where the main session is `main`; or by `recording:AGENT` for what the
    agent replays. `chowder-local diff`, `rerun` and `calls import` take it.
    """
    query = parse_query(request, RunFileQuery)
    name = request.path_params["run"]
    make = await services(request).runs.prepare(
        caller(request), name, earlier=query.earlier, redact=query.redact
    )
    return await json_in_thread(make)


def _session(request: Request, item: TracedTurn | ModelCall) -> SessionName | None:
    """The session of a turn or a model call; a model call may have none."""
    if item.session_key is None or item.instance_id is None:
        return None
    return services(request).session_names.find(item.instance_id, item.session_key)


async def list_model_calls(request: Request) -> Response:
    """The instance's model calls that are still in memory, latest first."""
    instance = await instance_of(request)
    limit = parse_query(request, ModelCallQuery).limit
    latest = list(islice(services(request).call_log.of_instance(instance.id), limit))
    return await json_in_thread(
        lambda: [ModelCallView.from_call(each, _session(request, each)) for each in latest]
    )


async def get_model_call(request: Request) -> Response:
    """One model call: the request without its headers, and the answer in the chunks that came."""
    organization_id = caller(request).organization_id
    call = services(request).call_log.get(organization_id, request.path_params["model_call_id"])
    if call is None:
        raise ModelCallNotFound
    return await json_in_thread(
        lambda: ModelCallDetailsView.from_call(call, _session(request, call))
    )
