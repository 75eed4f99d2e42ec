"""The rules by which the offline model answers, and how often they have been used."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from chowder_local.dashboard import recordings
from chowder_local.dashboard.forms import fields, form
from chowder_local.dashboard.instances import instance_choices, instance_names
from chowder_local.dashboard.pages import confirmation, notice, page, part, parts
from chowder_local.dashboard.streams import LiveStream, PageEvent
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import caller, services
from chowder_local.relay.scripts.parser import TextInvalid, parsed, written

if TYPE_CHECKING:
    from collections.abc import Hashable

    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.dashboard.streams import Marks
    from chowder_local.relay.scripts.registry import Owner, Running, Unmatched
    from chowder_local.relay.scripts.rules import Rule

HERE = "/recordings"
MACROS = "_replies.html"
CHANGED = "changed"
TEXT_MAX_CHARS = 128 * 1024
FORM_MAX_BYTES = 4 * TEXT_MAX_CHARS
RULES_MAX = 200
RULE_MAX_CHARS = 200
UNMATCHED_MAX = 20


class Scope(BaseModel):
    instance: str = Field("", max_length=64)
    """Whose rules; empty for those of the organization."""


class TypedScript(Scope):
    text: str = Field("", max_length=TEXT_MAX_CHARS)


@dataclass(frozen=True)
class RuleRow:
    """A rule in words, and how often it was used."""

    name: str
    match: str
    reply: str
    times: int | None
    used: int


async def show(request: Request) -> Response:
    instance = await _instance(request, parse_query(request, Scope))
    running = services(request).scripts.of(_owner(request, instance))
    registry = services(request).recordings
    return await page(
        request,
        "replies.html",
        here=HERE,
        instance=instance,
        instances=await instance_choices(request),
        text=await asyncio.to_thread(written, running.script) if running else "",
        rules=await _rules(request, instance, oob=False),
        server_rules=_rows(services(request).scripts.own),
        recordings=await recordings.build_rows(request),
        is_recording=registry.recorder is not None,
        is_replayed=registry.is_replayed,
    )


async def follow(request: Request) -> Response:
    """The rules' and recordings' use, each time that a model is called."""
    instance = await _instance(request, parse_query(request, Scope))

    async def watch(marks: Marks) -> None:
        with services(request).exchanges.watching() as news:
            while True:
                # Once at the beginning: rules may have been used since the page was made.
                marks.add(CHANGED)
                await news.wait()
                news.clear()

    async def render(_: frozenset[Hashable]) -> PageEvent:
        changed = [await _rules(request, instance), await recordings.render_list(request)]
        return PageEvent("\n".join(changed))

    return LiveStream(request, [watch], render)


async def put(request: Request) -> Response:
    """Puts the typed script in force, or shows what is wrong with it."""
    limit_bytes = min(FORM_MAX_BYTES, services(request).max_body_bytes)
    sent = validated(TypedScript, dict(await fields(request, max_bytes=limit_bytes)), "body")
    instance = await _instance(request, sent)
    try:
        script = await asyncio.to_thread(parsed, sent.text)
    except TextInvalid as invalid:
        problems = part(request, MACROS, "problems", invalid.problems)
        return parts(problems, await _rules(request, instance))
    services(request).scripts.put(_owner(request, instance), script)
    count = len(script.replies)
    text = f"In force: {count} {'rule' if count == 1 else 'rules'}."
    return await _changed(request, instance, text)


async def confirm_clear(request: Request) -> Response:
    instance = await _instance(request, parse_query(request, Scope))
    return confirmation(
        request,
        "/recordings/replies/clear",
        f"Clear the rules{f' of {instance.name}' if instance else ''}?",
        "Models are then called as if there were none. The text on the page stays for now.",
        "Clear them",
        cancel="Keep them",
        fields={"instance": instance.id} if instance else None,
    )


async def clear(request: Request) -> Response:
    instance = await _instance(request, validated(Scope, await form(request), "body"))
    services(request).scripts.remove(_owner(request, instance))
    return await _changed(request, instance, "The rules are cleared.")


def _owner(request: Request, instance: Instance | None) -> Owner:
    return instance.id if instance else caller(request).organization_id


async def _instance(request: Request, scope: Scope) -> Instance | None:
    if not scope.instance:
        return None
    return await services(request).lifecycle.instance(
        caller(request).organization_id, scope.instance
    )


async def _changed(request: Request, instance: Instance | None, text: str) -> Response:
    no_problems = part(request, MACROS, "problems", ())
    return notice(request, text, no_problems, await _rules(request, instance))


async def _rules(request: Request, instance: Instance | None, *, oob: bool = True) -> Markup:
    running = services(request).scripts.of(_owner(request, instance))
    unmatched = await _unmatched(request, running)
    return part(request, MACROS, "rules_of", _rows(running), unmatched, running, oob=oob)


async def _unmatched(request: Request, running: Running | None) -> list[tuple[Unmatched, str]]:
    """The latest messages that no rule matched, with the names of their instances."""
    if running is None:
        return []
    own = [
        each
        for each in running.unmatched
        if each.organization_id == caller(request).organization_id
    ]
    latest = own[: -UNMATCHED_MAX - 1 : -1]
    names = await instance_names(request, {each.instance_id for each in latest})
    return [(each, names[each.instance_id]) for each in latest]


def _rows(running: Running | None) -> list[RuleRow]:
    if running is None:
        return []
    rules = zip(running.script.replies[:RULES_MAX], running.used, strict=False)
    return [
        RuleRow(
            name=rule.name or f"replies[{number}]",
            match=_members(rule.match.model_dump(mode="json", exclude_unset=True)) or "anything",
            reply=_reply(rule),
            times=rule.times,
            used=used,
        )
        for number, (rule, used) in enumerate(rules)
    ]


def _reply(rule: Rule) -> str:
    reply = rule.model_dump(mode="json", exclude_unset=True)["reply"]
    steps = reply if isinstance(reply, list) else [reply]
    texts = (f"“{each}”" if isinstance(each, str) else _members(each) for each in steps)
    return ", then ".join(texts)[:RULE_MAX_CHARS]


def _members(members: dict[str, Any]) -> str:
    texts = (f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in members.items())
    return ", ".join(texts)[:RULE_MAX_CHARS]
