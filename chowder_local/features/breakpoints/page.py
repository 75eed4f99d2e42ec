"""Breakpoints on the dashboard: a button on an agent's pages, and forms on a held call's page."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from chowder_local.core import untrusted_json
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.core.visible_text import visible_text
from chowder_local.dashboard.model_calls import HERE, call_of
from chowder_local.dashboard.pages import PageParts, notice, parse_form, part, redirect
from chowder_local.dashboard.routes import INSTANCE, MODEL_CALL, Page
from chowder_local.features.breakpoints.model import BreakpointMatch, HeldCallRelease
from chowder_local.features.breakpoints.service import Breakpoints
from chowder_local.http.bodies import validated
from chowder_local.http.services import caller, instance_of, service
from chowder_local.relay.scripts.rules import Action

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.dashboard.model_calls import ParsedCall
    from chowder_local.relay.call_log import ModelCall

MACROS = "breakpoints.html"
CONVERSATIONS = {"messages", "input", "contents"}
"""The members with what was said, in the providers' formats."""
MAX_FORM_BYTES = 8 * 1024 * 1024
"""A request of a long conversation with pictures, percent-encoded, is longer than its JSON."""


def hold_button(request: Request, instance: Instance, *, oob: bool = False) -> Markup:
    """The button that holds an agent's next call, and the breakpoint that is set."""
    found = service(request, Breakpoints).of_instance(instance.id)
    return part(request, MACROS, "holding", instance, found, oob=oob)


def held_call_part(request: Request, call: ModelCall, content: ParsedCall) -> Markup:
    """The forms by which a held call goes on."""
    return part(request, MACROS, "held", call, content)


async def hold_next_call(request: Request) -> Response:
    """Sets a breakpoint for the next model call of the instance."""
    instance = await instance_of(request)
    service(request, Breakpoints).put(instance.id, BreakpointMatch(), once=True)
    text = "The agent's next model call is held. “Model calls” lists it, with what it sends."
    return notice(request, text, hold_button(request, instance, oob=True))


async def remove_breakpoint(request: Request) -> Response:
    """Removes the breakpoint of the instance; what it holds stays held."""
    instance = await instance_of(request)
    service(request, Breakpoints).remove(instance.id)
    text = "The breakpoint is removed. Calls that are held stay held."
    return notice(request, text, hold_button(request, instance, oob=True))


class ReleaseForm(BaseModel):
    """How a held call goes on: with these texts, this body, or an answer or error instead."""

    text: str = ""
    system: str = ""
    body: str = ""
    answer: str = ""
    how: str = ""
    """`answer`, also for an empty one."""
    error: int | None = Field(None, ge=400, le=599)


async def release(request: Request) -> Response:
    """Lets a held call go on."""
    sent = await parse_form(request, ReleaseForm, MAX_FORM_BYTES)
    call = call_of(request)
    how = HeldCallRelease()
    if sent.error is not None:
        how = HeldCallRelease(reply=Action(error=sent.error))
    elif sent.how == "answer":
        how = await asyncio.to_thread(validated, HeldCallRelease, {"reply": sent.answer}, "body")
    elif sent.body or sent.text or sent.system:
        how = HeldCallRelease(request=await asyncio.to_thread(_edited, call, sent))
    service(request, Breakpoints).resume(caller(request).organization_id, call.id, how.release)
    return redirect(request, f"{HERE}/{call.id}")


def _edited(call: ModelCall, sent: ReleaseForm) -> dict[str, Any] | None:
    """The body that a form asks for; None if it is the call's. Raises InputInvalid."""
    original = call.request.content
    content = original
    if sent.body:
        try:
            content = untrusted_json.read_encodable_object(sent.body.encode())
        except ValueError as invalid:
            problem = {"loc": ["body", "request"], "msg": f"No JSON: {invalid}", "type": "json"}
            raise InputInvalid([problem]) from None
    for old, new, members in (
        (call.request.system_prompt, sent.system, content),
        (call.last_message or "", sent.text, CONVERSATIONS & content.keys()),
    ):
        # A browser sends CRLF for the line breaks of a text.
        text = new.replace("\r\n", "\n")
        if not old or not text or text in {old.strip(), visible_text(old).strip()}:
            continue
        found = {each: _replaced(content[each], old.strip(), text) for each in members}
        changed = {name: each for name, each in found.items() if each is not None}
        if not changed:
            words = "This text has several parts in the request: change it in the JSON"
            raise InputInvalid([{"loc": ["body", "text"], "msg": words, "type": "value_error"}])
        content = {**content, **changed}
    return None if content == original else content


def _replaced(value: Any, old: str, new: str) -> Any:
    """The value with its last text that has `old` changed; None if none has it."""
    if isinstance(value, str):
        return value.replace(old, new, 1) if old in value else None
    if not isinstance(value, dict | list):
        return None
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    for key in reversed(keys):
        if (found := _replaced(value[key], old, new)) is not None:
            copy = value.copy()
            copy[key] = found
            return copy
    return None


PAGES = (
    Page("POST", f"{MODEL_CALL}/release", release),
    Page("POST", f"{INSTANCE}/hold", hold_next_call),
    Page("POST", f"{INSTANCE}/breakpoint/remove", remove_breakpoint),
)

PARTS = PageParts(instance_button=hold_button, held_call=held_call_part)
