"""Handlers: the faults that are set, as they are used up; setting and taking them back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel, Field
from starlette.responses import Response

from chowder_local.api.local.faults import set_fault
from chowder_local.api.routes import OPERATIONS
from chowder_local.api.schemas.faults import NEW, USUAL_STATUSES, FaultCreation, Method
from chowder_local.core.events import EventType
from chowder_local.core.fault_injection import FaultKind
from chowder_local.dashboard.event_watch import watch
from chowder_local.dashboard.forms import form
from chowder_local.dashboard.instance_names import choices, instance_names
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.services import dashboard, fragment, page
from chowder_local.dashboard.streams import MEDIA_TYPE, Live, Told
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import caller, services
from chowder_local.http.streams import EVENT_STREAM

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.requests import Request

    from chowder_local.core.fault_injection import Fault, FaultDraft
    from chowder_local.dashboard.streams import Marks

HERE = "/faults"
USED = "used"
WORDS = {
    FaultKind.PROVISIONING: "a new instance, on its way",
    FaultKind.CREATE: "a create",
    FaultKind.START: "a start",
    FaultKind.STOP: "a stop",
    FaultKind.MESSAGE: "a message, streamed or not",
    FaultKind.STREAM: "a message's stream",
    FaultKind.CALL: "any call of the API",
}


class FaultWanted(BaseModel):
    """For which kind the form is, and of which instance."""

    kind: FaultKind = FaultKind.MESSAGE
    instance: str = Field("", max_length=64)


@dataclass(frozen=True)
class FaultLine:
    """A line of the list: what it befalls, and what happens then."""

    fault: Fault
    befalls: str
    effect: str


async def show(request: Request) -> Response:
    """The page; the fields of another kind are a part that htmx takes out."""
    wanted = parse_query(request, FaultWanted)
    return await page(
        request,
        "faults.html",
        here=HERE,
        wanted=wanted,
        kinds=WORDS,
        usual=USUAL_STATUSES.get(wanted.kind),
        is_new=wanted.kind in NEW,
        methods=get_args(Method),
        paths=list(dict.fromkeys(each.path for each in OPERATIONS)),
        instances=await choices(request),
        lines=await _lines(request),
    )


async def add(request: Request) -> Response:
    """Sets one."""
    fault = await set_fault(request, validated(FaultCreation, await form(request), "body"))
    words = WORDS[fault.draft.kind]
    return await _changed(request, f"Set: {fault.left} × {words}.")


async def remove(request: Request) -> Response:
    """Takes one back."""
    services(request).faults.remove(
        caller(request).organization_id, request.path_params["fault_id"]
    )
    return await _changed(request, "It is taken back.")


async def ask_clear(request: Request) -> Response:
    """The question whether all are to go."""
    found = services(request).faults.of(caller(request).organization_id)
    return fragment(request, "clear_faults.html", count=len(found))


async def clear(request: Request) -> Response:
    """Takes all back."""
    count = services(request).faults.clear(caller(request).organization_id)
    return await _changed(request, f"{count} taken back.")


async def follow(request: Request) -> Response:
    """The list, each time that a fault is used."""
    if request.method == "HEAD":
        return Response(media_type=MEDIA_TYPE, headers=HEADERS | EVENT_STREAM)

    async def used(marks: Marks) -> None:
        # What came between the page and this is seen as well.
        marks.add(USED)
        await watch(request, {EventType.FAULT_APPLIED}, partial(marks.add, USED))

    async def told(_: frozenset[Hashable]) -> Told:
        lines = await _lines(request)
        return Told(dashboard(request).rendering.html("fault_list.html", lines=lines))

    return Live(request, [used], told)


async def _changed(request: Request, words: str) -> Response:
    return fragment(request, "faults_changed.html", words=words, lines=await _lines(request))


async def _lines(request: Request) -> list[FaultLine]:
    found = services(request).faults.of(caller(request).organization_id)
    ids = {each.draft.instance_id for each in found if each.draft.instance_id is not None}
    names = await instance_names(request, ids)
    return [
        FaultLine(each, _befalls(each.draft, names.get(each.draft.instance_id)), _effect(each))
        for each in found
    ]


def _befalls(asked: FaultDraft, name: str | None) -> str:
    words = WORDS[asked.kind]
    if asked.path is not None:
        words = f"{asked.method or 'any method'} {asked.path}"
    return words if name is None else f"{words}, for {name}"


def _effect(fault: Fault) -> str:
    asked = fault.draft
    said = []
    if asked.delay_s:
        said.append(f"waits {asked.delay_s:g} s")
    if asked.after_events is not None:
        said.append(f"breaks off after {asked.after_events} events")
    if asked.status is not None:
        said.append(f"is answered {asked.status}")
    if asked.retry_after_s is not None:
        said.append(f"to be tried again after {asked.retry_after_s} s")
    if asked.detail is not None:
        said.append(f"{'' if asked.status else 'fails: '}“{asked.detail}”")
    return ", ".join(said)
