"""Handlers: an instance's configuration as a document that OpenClaw judges."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from chowder_local.api.schemas.instances import InstanceChange
from chowder_local.core.errors.agents import ConfigRefused, FileTooLarge, Problem
from chowder_local.dashboard.forms import form
from chowder_local.dashboard.json_locator import Placed, placed, read_document
from chowder_local.dashboard.lazy_fragment import answered, running_of
from chowder_local.dashboard.services import fragment
from chowder_local.dashboard.tabs import instance_page
from chowder_local.http.bodies import json_of, validated
from chowder_local.http.services import instance_of, services
from chowder_local.openclaw.config.agent_config import CONFIG_FILE
from chowder_local.openclaw.config.edits import HIDDEN, difference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.instances.configuration.editing import Verdict

    Use = Callable[[Request, Instance, dict[str, Any]], Awaitable[Response]]

EDIT_MAX_BYTES = 2 * 1024 * 1024
"""A form's encoding makes three bytes of many a character, and there are two documents in it."""

LONGEST = 256 * 1024
"""As much as can be changed at once, too."""


class Edit(BaseModel):
    """What was typed, and what was there to begin with."""

    document: str = Field(min_length=1)
    before: str = "{}"


async def show(request: Request) -> Response:
    """The page; what the agent has to tell comes behind it."""
    return await instance_page(request, "config.html", await instance_of(request), tab="/config")


async def edit(request: Request) -> Response:
    """The editor with what is written now."""
    return await answered(request, "config_editor.html", _written, again="/config/editor")


async def check(request: Request) -> Response:
    """Judges what was typed, and changes nothing."""
    return await _used(request, _checked)


async def save(request: Request) -> Response:
    """Has OpenClaw take what was typed; what it refuses stays as it was typed."""
    return await _used(request, _saved)


async def _used(request: Request, use: Use) -> Response:
    instance = await running_of(request)
    sent = validated(Edit, await form(request, EDIT_MAX_BYTES), "body")
    document = read_document(sent.document)
    if isinstance(document, Placed):
        return _told(request, problems=[document])
    try:
        patch = difference(json_of(sent.before.encode()), document)
        validated(InstanceChange, {"openclaw_config": patch}, "body")
        return await use(request, instance, patch)
    except ConfigRefused as refused:
        problems = refused.problems or (Problem("", str(refused)),)
        return _told(request, problems=placed(sent.document, problems))


async def _checked(request: Request, instance: Instance, patch: dict[str, Any]) -> Response:
    return _told(request, verdict=await services(request).config_editing.check(instance, patch))


async def _saved(request: Request, instance: Instance, patch: dict[str, Any]) -> Response:
    has_restarted = await services(request).config_editing.save(instance, patch)
    words = (
        "Saved, and in force." if patch else "Nothing has changed, so there was nothing to save."
    )
    if has_restarted:
        words = "Saved. OpenClaw has restarted itself for it, and takes messages again."
    written = await _written(request, instance)
    return fragment(request, "config_saved.html", it=instance, words=words, **written)


async def _written(request: Request, instance: Instance) -> dict[str, Any]:
    document = await services(request).config_editing.read(instance)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if len(text) > LONGEST:
        raise FileTooLarge(CONFIG_FILE, LONGEST)
    return {"text": text, "rows": min(max(text.count("\n") + 3, 16), 36), "hidden": HIDDEN}


def _told(
    request: Request, *, verdict: Verdict | None = None, problems: Sequence[Placed] = ()
) -> Response:
    return fragment(request, "config_verdict.html", verdict=verdict, problems=problems)
