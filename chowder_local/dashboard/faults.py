"""The faults: adding and removing them, and a live list of those that are left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel, Field

from chowder_local.api.handlers.faults_and_replies import set_fault
from chowder_local.api.schemas.faults_and_replies import NEW, USUAL_STATUSES, FaultCreation, Method
from chowder_local.core.fault_injection import ChannelEffect, FaultKind
from chowder_local.dashboard.instances import instance_choices, instance_names
from chowder_local.dashboard.pages import dashboard, dialog, notice, page, parse_form, part
from chowder_local.dashboard.streams import LiveStream, PageEvent, watch_signal
from chowder_local.http.bodies import parse_query
from chowder_local.http.services import caller, services
from chowder_local.openclaw.channel_table import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Hashable

    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.fault_injection import Fault, FaultDraft

HERE = "/faults"
MACROS = "_faults.html"
KIND_TITLES = {
    FaultKind.PROVISIONING: "provisioning of a new instance",
    FaultKind.CREATE: "creating an instance",
    FaultKind.START: "starting an instance",
    FaultKind.STOP: "stopping an instance",
    FaultKind.MESSAGE: "a message, streamed or not",
    FaultKind.STREAM: "the stream of a message",
    FaultKind.CALL: "any API call",
    FaultKind.CHANNEL: "a message in an offline channel",
}


class FaultFormQuery(BaseModel):
    """The kind and the instance that the form starts with."""

    kind: FaultKind = FaultKind.MESSAGE
    instance: str = Field("", max_length=64)


@dataclass(frozen=True)
class FaultRow:
    fault: Fault
    target: str
    effect: str


async def show(request: Request) -> Response:
    """The page; htmx selects the fields from it when the kind changes."""
    query = parse_query(request, FaultFormQuery)
    return await page(
        request,
        "faults.html",
        here=HERE,
        query=query,
        kinds=KIND_TITLES,
        usual=USUAL_STATUSES.get(query.kind),
        effects=list(ChannelEffect),
        channels=sorted(CHANNELS),
        is_new=query.kind in NEW,
        methods=get_args(Method),
        paths=dashboard(request).paths,
        instances=await instance_choices(request),
        rows=await _rows(request),
    )


async def add(request: Request) -> Response:
    fault = await set_fault(request, await parse_form(request, FaultCreation))
    return await _changed(request, f"Fault set: {fault.left} × {KIND_TITLES[fault.draft.kind]}.")


async def remove(request: Request) -> Response:
    services(request).faults.remove(
        caller(request).organization_id, request.path_params["fault_id"]
    )
    return await _changed(request, "The fault is removed.")


async def confirm_clear(request: Request) -> Response:
    count = len(services(request).faults.of_organization(caller(request).organization_id))
    return dialog(request, MACROS, "confirm_clear", count)


async def clear(request: Request) -> Response:
    count = services(request).faults.clear(caller(request).organization_id)
    return await _changed(request, f"Faults removed: {count}.")


async def follow(request: Request) -> Response:
    """The list, whenever a fault is set, applied or removed."""
    watched = services(request).faults.changes

    async def render(_: frozenset[Hashable]) -> PageEvent:
        return PageEvent(await _listing(request))

    return LiveStream(request, [partial(watch_signal, watched)], render)


async def _changed(request: Request, text: str) -> Response:
    return notice(request, text, await _listing(request))


async def _listing(request: Request) -> Markup:
    return part(request, MACROS, "listing", await _rows(request), oob=True)


async def _rows(request: Request) -> list[FaultRow]:
    faults = services(request).faults.of_organization(caller(request).organization_id)
    ids = {each.draft.instance_id for each in faults if each.draft.instance_id is not None}
    names = await instance_names(request, ids)
    return [
        FaultRow(each, _target(each.draft, names.get(each.draft.instance_id)), _effect(each.draft))
        for each in faults
    ]


def _target(draft: FaultDraft, instance_name: str | None) -> str:
    target = KIND_TITLES[draft.kind]
    if draft.path is not None:
        target = f"{draft.method or 'any method'} {draft.path}"
    if draft.channel is not None:
        target = f"a message in {draft.channel}"
    return target if instance_name is None else f"{target}, for {instance_name}"


def _effect(draft: FaultDraft) -> str:
    effects = [] if draft.effect is None else [draft.effect.replace("_", " ")]
    if draft.delay_s:
        effects.append(f"delay of {draft.delay_s:g} s")
    if draft.after_events is not None:
        effects.append(f"breaks off after {draft.after_events} events")
    if draft.status is not None:
        effects.append(f"answers {draft.status}")
    if draft.retry_after_s is not None:
        effects.append(f"Retry-After {draft.retry_after_s} s")
    if draft.detail is not None:
        effects.append(f"{'' if draft.status else 'fails: '}“{draft.detail}”")
    return ", ".join(effects)
