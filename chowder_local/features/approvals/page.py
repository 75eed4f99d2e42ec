"""Approvals on the dashboard: what waits, above a conversation and in the list of agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.events import EventType
from chowder_local.dashboard.pages import PageParts, notice, parse_form, part, parts
from chowder_local.dashboard.routes import INSTANCE, Page
from chowder_local.dashboard.streams import follow_instance
from chowder_local.features.approvals.model import ApprovalDecision
from chowder_local.features.approvals.openclaw import Decision
from chowder_local.features.approvals.service import Approvals
from chowder_local.http.services import instance_of, service, services

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance

MACROS = "approvals.html"


def waiting_note(request: Request, instance: Instance) -> Markup:
    """How many of an agent's commands wait, if any do."""
    count = len(service(request, Approvals).known(instance))
    return part(request, MACROS, "waiting_note", instance, count)


def above_conversation(request: Request, instance: Instance) -> Markup:
    """The commands that wait, which the page then keeps current."""
    # Before they are read, so that no change is missed.
    last_event = services(request).events.last_id
    waiting = service(request, Approvals).known(instance)
    return part(request, MACROS, "followed", instance, waiting, last_event)


async def show_approvals(request: Request) -> Response:
    """The commands that wait for an approval."""
    return parts(_approvals(request, await instance_of(request)))


async def follow_approvals(request: Request) -> Response:
    """Tells the page when to reload them."""
    types = {EventType.APPROVAL_REQUESTED, EventType.APPROVAL_RESOLVED}
    return await follow_instance(request, types)


async def decide_approval(request: Request) -> Response:
    """Lets a command run, or denies it."""
    instance = await instance_of(request)
    sent = await parse_form(request, ApprovalDecision)
    approval_id = request.path_params["approval_id"]
    await service(request, Approvals).decide(instance, approval_id, sent.decision)
    text = "The command is denied." if sent.decision is Decision.DENY else "The command runs."
    return notice(request, text, _approvals(request, instance, oob=True))


def _approvals(request: Request, instance: Instance, *, oob: bool = False) -> Markup:
    waiting = service(request, Approvals).known(instance)
    return part(request, MACROS, "approvals", instance, waiting, oob=oob)


PAGES = (
    Page("GET", f"{INSTANCE}/approvals", show_approvals),
    Page("GET", f"{INSTANCE}/approvals/live", follow_approvals),
    Page("POST", f"{INSTANCE}/approvals/{{approval_id}}", decide_approval),
)
PARTS = PageParts(above_conversation=above_conversation, list_note=waiting_note)
