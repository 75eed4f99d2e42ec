"""The calls of clocks: their rows of the route table, and their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from chowder_local.api.access import Access
from chowder_local.api.operations import Operation
from chowder_local.features.clock.errors import AdvanceInterrupted
from chowder_local.features.clock.model import (
    AdvancedRunView,
    AdvanceView,
    ClockAdvance,
    ClockSetting,
    ClockView,
)
from chowder_local.features.clock.service import RESET, ClockChange, Clocks
from chowder_local.http.bodies import parse
from chowder_local.http.middleware import note
from chowder_local.http.responses import CLIENT_CLOSED_REQUEST, while_connected
from chowder_local.http.services import instance_of, service, services

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel
    from starlette.requests import Request

    from chowder_local.core.domain import Instance


async def get_clock(request: Request) -> ClockView:
    """The agent's time, and whether it is the machine's."""
    return _view(request, await instance_of(request))


async def set_clock(request: Request) -> ClockView:
    """Sets the agent's clock, for all its programs at once, or for its next start if it is stopped.

    What has become due is done once, late, as after a suspend. The clock does not go back once the
    agent has jobs.
    """
    instance = await instance_of(request)
    body = await parse(request, ClockSetting)
    _note(request, body)
    change = ClockChange(body.at, body.frozen, body.seed, "seed" in body.model_fields_set)
    return _view(request, await service(request, Clocks).set(instance, change))


async def reset_clock(request: Request) -> ClockView:
    """Gives the agent the machine's time again, and random ids.

    A clock that is ahead does not go back once the agent has jobs.
    """
    instance = await instance_of(request)
    return _view(request, await service(request, Clocks).set(instance, RESET))


async def advance_clock(request: Request) -> AdvanceView | Response:
    """Moves the agent's clock on, from one time at which jobs are due to the next.

    Each job runs at its time. The answer comes when the agent is quiet; the event stream has the
    progress. If the client leaves, the clock stays where it has come to. If the agent is stopped
    meanwhile, for example, the 409 has the `runs` so far.
    """
    instance = await instance_of(request)
    body = await parse(request, ClockAdvance)
    clocks, kernel = service(request, Clocks), services(request)
    until = body.until_from(kernel.agent_times.now(instance))
    _note(request, body)
    try:
        advance = await while_connected(
            request, lambda: clocks.advance(instance, until, body.limit), kernel.shutdown
        )
    except AdvanceInterrupted as interrupted:
        views = _views(interrupted.runs)
        interrupted.members = {"runs": [each.model_dump(mode="json") for each in views]}
        raise
    if advance is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    clock = _view(request, advance.instance)
    return AdvanceView(
        **clock.model_dump(), has_arrived=advance.has_arrived, runs=_views(advance.runs)
    )


async def cancel_advance(request: Request) -> None:
    """Ends an advance of the agent's clock, if there is one; it answers with what has happened."""
    service(request, Clocks).cancel((await instance_of(request)).id)


def _view(request: Request, instance: Instance) -> ClockView:
    return ClockView.from_instance(
        instance, services(request).clock(), services(request).egress_rule.effective(instance)
    )


def _views(runs: Iterable[object]) -> list[AdvancedRunView]:
    return [AdvancedRunView.model_validate(each) for each in runs]


def _note(request: Request, body: BaseModel) -> None:
    note(request, **{key: str(value) for key, value in body.model_dump(exclude_unset=True).items()})


OPERATIONS = (
    Operation(
        "GET",
        "/local/instances/{instance_id}/clock",
        get_clock,
        Access.ORGANIZATION,
        "getClock",
        "Show an agent's clock",
        answer=ClockView,
        tool="read_clock",
    ),
    Operation(
        "PUT",
        "/local/instances/{instance_id}/clock",
        set_clock,
        Access.ORGANIZATION,
        "setClock",
        "Set an agent's clock",
        body=ClockSetting,
        answer=ClockView,
        errors=(409, 502),
        is_audited=True,
        tool="set_clock",
    ),
    Operation(
        "DELETE",
        "/local/instances/{instance_id}/clock",
        reset_clock,
        Access.ORGANIZATION,
        "resetClock",
        "Reset an agent's clock",
        answer=ClockView,
        errors=(409, 502),
        is_audited=True,
    ),
    Operation(
        "POST",
        "/local/instances/{instance_id}/clock/advance",
        advance_clock,
        Access.ORGANIZATION,
        "advanceClock",
        "Move an agent's clock on",
        body=ClockAdvance,
        answer=AdvanceView,
        errors=(409, 502),
        is_audited=True,
        tool="advance_clock",
    ),
    Operation(
        "DELETE",
        "/local/instances/{instance_id}/clock/advance",
        cancel_advance,
        Access.ORGANIZATION,
        "cancelAdvance",
        "End an advance of a clock",
        status=204,
    ),
)
