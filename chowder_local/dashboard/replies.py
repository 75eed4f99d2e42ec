"""Handlers: the rules by which the offline model answers, and what they have come to."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from chowder_local.dashboard.forms import fields, form
from chowder_local.dashboard.instance_names import choices, instance_names
from chowder_local.dashboard.recordings import recording_lines
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.services import dashboard, fragment, page
from chowder_local.dashboard.streams import MEDIA_TYPE, Live, Told
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import caller, services
from chowder_local.http.streams import EVENT_STREAM
from chowder_local.relay.scripts.parser import TextInvalid, parse
from chowder_local.relay.scripts.serializer import serialize

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.dashboard.streams import Marks
    from chowder_local.relay.scripts.registry import Owner, Running, Unmatched
    from chowder_local.relay.scripts.rules import Rule

HERE = "/recordings"
TEXT_MAX = 128 * 1024
FORM_MAX_BYTES = 4 * TEXT_MAX
SHOWN = 200
"""So many rules are listed, and so many characters of each."""
MISSED = 20


class Whose(BaseModel):
    """The rules of an instance, or else those of the organization."""

    instance: str = Field("", max_length=64)


class Script(Whose):
    """A script as it was typed."""

    text: str = Field("", max_length=TEXT_MAX)


@dataclass(frozen=True)
class RuleLine:
    """A rule in words, and how often it has counted."""

    name: str
    match: str
    reply: str
    times: int | None
    used: int


async def show(request: Request) -> Response:
    """The page."""
    whose = parse_query(request, Whose)
    instance = await _instance(request, whose)
    known = services(request)
    running = known.scripts.of(instance.id if instance else caller(request).organization_id)
    server = known.scripts.own
    return await page(
        request,
        "recordings.html",
        here=HERE,
        instance=instance,
        instances=await choices(request),
        running=running,
        text=await asyncio.to_thread(serialize, running.script) if running else "",
        rules=_lines(running),
        missed=await _missed(request, running),
        server_rules=_lines(server),
        recordings=await recording_lines(request),
        recorder=known.recordings.recorder is not None,
        is_replayed=known.recordings.is_replayed,
    )


async def follow(request: Request) -> Response:
    """What is used and missed, each time that a model is asked something."""
    if request.method == "HEAD":
        return Response(media_type=MEDIA_TYPE, headers=HEADERS | EVENT_STREAM)
    instance = await _instance(request, parse_query(request, Whose))
    exchanges = services(request).exchanges

    async def asked(marks: Marks) -> None:
        # What came between the page and this is seen as well.
        marks.add("asked")
        with exchanges.watching() as news:
            while True:
                await news.wait()
                news.clear()
                marks.add("asked")

    async def told(_: frozenset[Hashable]) -> Told:
        html = dashboard(request).rendering.html(
            "recordings_live.html",
            recordings=await recording_lines(request),
            **await _counts(request, instance),
        )
        return Told(html)

    return Live(request, [asked], told)


async def put(request: Request) -> Response:
    """Puts what was typed in force; what is wrong with it is said below it."""
    limit_bytes = min(FORM_MAX_BYTES, services(request).max_body_bytes)
    sent = validated(Script, dict(await fields(request, max_bytes=limit_bytes)), "body")
    instance = await _instance(request, sent)
    try:
        script = await asyncio.to_thread(parse, sent.text)
    except TextInvalid as invalid:
        return await _changed(request, instance, None, invalid.problems)
    owner: Owner = instance.id if instance else caller(request).organization_id
    services(request).scripts.put(owner, script)
    count = len(script.replies)
    return await _changed(request, instance, f"In force: {count} {_rules(count)}.")


async def ask_clear(request: Request) -> Response:
    """The question whether the rules are to go."""
    instance = await _instance(request, parse_query(request, Whose))
    return fragment(request, "clear_replies.html", instance=instance)


async def clear(request: Request) -> Response:
    """Ends the script."""
    instance = await _instance(request, validated(Whose, await form(request), "body"))
    owner: Owner = instance.id if instance else caller(request).organization_id
    services(request).scripts.remove(owner)
    return await _changed(request, instance, "There are no rules any more.")


async def _instance(request: Request, whose: Whose) -> Instance | None:
    if not whose.instance:
        return None
    return await services(request).directory.get(caller(request).organization_id, whose.instance)


async def _changed(
    request: Request,
    instance: Instance | None,
    words: str | None,
    problems: Any = (),
) -> Response:
    counts = await _counts(request, instance)
    return fragment(request, "replies_changed.html", words=words, problems=problems, **counts)


async def _counts(request: Request, instance: Instance | None) -> dict[str, Any]:
    known = services(request)
    running = known.scripts.of(instance.id if instance else caller(request).organization_id)
    return {
        "instance": instance,
        "running": running,
        "rules": _lines(running),
        "missed": await _missed(request, running),
    }


async def _missed(request: Request, running: Running | None) -> list[tuple[Unmatched, str]]:
    """The latest that no rule was about, with the names of who asked."""
    if running is None:
        return []
    own = [
        each
        for each in running.unmatched
        if each.organization_id == caller(request).organization_id
    ]
    latest = own[: -MISSED - 1 : -1]
    names = await instance_names(request, {each.instance_id for each in latest})
    return [(each, names[each.instance_id]) for each in latest]


def _lines(running: Running | None) -> list[RuleLine]:
    if running is None:
        return []
    rules = zip(running.script.replies[:SHOWN], running.used, strict=False)
    return [
        RuleLine(
            name=rule.name or f"replies[{number}]",
            match=_brief(rule.match.model_dump(mode="json", exclude_unset=True)) or "anything",
            reply=_reply(rule),
            times=rule.times,
            used=used,
        )
        for number, (rule, used) in enumerate(rules)
    ]


def _reply(rule: Rule) -> str:
    told = rule.model_dump(mode="json", exclude_unset=True)["reply"]
    told = told if isinstance(told, list) else [told]
    return ", then ".join(f"“{each}”" if isinstance(each, str) else _brief(each) for each in told)[
        :SHOWN
    ]


def _brief(members: dict[str, Any]) -> str:
    said = (f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in members.items())
    return ", ".join(said)[:SHOWN]


def _rules(count: int) -> str:
    return "rule" if count == 1 else "rules"
