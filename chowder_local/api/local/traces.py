"""Handlers: what agents did in their turns."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from chowder_local.api.schemas.traces import TraceDetailsView, TraceQuery, TraceView
from chowder_local.core.errors.agents import TraceNotFound
from chowder_local.http.bodies import parse_query
from chowder_local.http.responses import json_in_thread
from chowder_local.http.services import instance_of, services
from chowder_local.relay.turn_steps import steps_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.instances.conversations.trace_log import TracedTurn
    from chowder_local.relay.local_model import SessionName


async def index(request: Request) -> list[TraceView]:
    """The instance's turns that are still in memory, latest first."""
    instance = await instance_of(request)
    limit = parse_query(request, TraceQuery).limit
    latest = islice(services(request).traces.of_instance(instance.id), limit)
    return [TraceView.from_turn(each, _session(request, each)) for each in latest]


async def show(request: Request) -> Response:
    """What the agent did in one turn: its model calls and the tools that it ran."""
    instance = await instance_of(request)
    turn = services(request).traces.get(instance.id, request.path_params["response_id"])
    if turn is None:
        raise TraceNotFound
    exchanges, organization_id = services(request).call_log, instance.organization_id
    found = (exchanges.get(organization_id, each) for each in turn.exchange_ids)
    calls = [call for call in found if call is not None]
    session = _session(request, turn)
    # Requests of long conversations take time to parse.
    return await json_in_thread(
        lambda: TraceDetailsView.from_steps(turn, session, steps_of(calls, turn.at))
    )


def _session(request: Request, turn: TracedTurn) -> SessionName | None:
    return services(request).session_names.find(turn.instance_id, turn.session_key)
