"""Scripted replies and recordings, which answer model calls instead of providers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from chowder_local.api.schemas.history import RecordingPlayback
from chowder_local.api.uploads import form_of
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.dashboard.instances import instance_choices, instance_names
from chowder_local.dashboard.model_calls import all_calls
from chowder_local.dashboard.pages import dialog, fields, notice, page, parse_form, part, parts
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.streams import LiveStream, PageEvent, watch_signal
from chowder_local.http.bodies import json_of, parse_query, read_body, validated
from chowder_local.http.responses import attachment
from chowder_local.http.services import caller, instance_of, services
from chowder_local.relay.call_log import make_recording
from chowder_local.relay.scripts.files import TextInvalid, parse, serialize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

    from markupsafe import Markup
    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.relay.recordings import RecordedCall
    from chowder_local.relay.scripts.registry import ActiveScript, Owner, Unmatched
    from chowder_local.relay.scripts.rules import Rule

HERE = "/replies"
MACROS = "_replies.html"
TEXT_MAX_CHARS = 128 * 1024
FORM_MAX_BYTES = 4 * TEXT_MAX_CHARS
RULES_MAX = 200
RULE_MAX_CHARS = 200
UNMATCHED_MAX = 20
PIECE_BYTES = 64 * 1024


class ScopeQuery(BaseModel):
    instance: str = Field("", max_length=64)
    """The instance whose rules the page shows; empty for the organization's rules."""


class ScriptForm(ScopeQuery):
    text: str = Field("", max_length=TEXT_MAX_CHARS)


@dataclass(frozen=True)
class RuleRow:
    """A rule as text, and how often it was used."""

    name: str
    match: str
    reply: str
    times: int | None
    used: int


@dataclass(frozen=True)
class RecordingRow:
    """An instance; `calls` is the number of its model calls in memory."""

    instance: Instance
    calls: int
    entries: int | None
    """The number of recorded calls; None if no recording answers the instance."""


async def show(request: Request) -> Response:
    instance = await _instance(request, parse_query(request, ScopeQuery))
    running = services(request).scripts.get(_owner(request, instance))
    registry = services(request).recordings
    return await page(
        request,
        "replies.html",
        here=HERE,
        instance=instance,
        instances=await instance_choices(request),
        text=await asyncio.to_thread(serialize, running.script) if running else "",
        rules=await _rules(request, instance, oob=False),
        server_rules=_rows(services(request).scripts.own),
        recordings=await _recording_rows(request),
        is_recording=registry.recorder is not None,
        is_replayed=registry.is_replayed,
    )


async def follow(request: Request) -> Response:
    """Rules and recordings, whenever they change or are used."""
    instance = await _instance(request, parse_query(request, ScopeQuery))

    registries = services(request).scripts, services(request).recordings
    # Changes of the scripts and recordings are watched, too: a rendering from before a change could
    # arrive after the change and stay.
    watched = [services(request).call_log.changes, *(each.changes for each in registries)]

    async def render(_: frozenset[Hashable]) -> PageEvent:
        changed = [await _rules(request, instance), await _recordings(request)]
        return PageEvent("\n".join(changed))

    return LiveStream(request, [partial(watch_signal, each) for each in watched], render)


async def put(request: Request) -> Response:
    """Puts the typed script in force, or shows its problems."""
    limit_bytes = min(FORM_MAX_BYTES, services(request).max_body_bytes)
    sent = validated(ScriptForm, dict(await fields(request, max_bytes=limit_bytes)), "body")
    instance = await _instance(request, sent)
    try:
        script = await asyncio.to_thread(parse, sent.text)
    except TextInvalid as invalid:
        problems = part(request, MACROS, "problems", invalid.problems)
        return parts(problems, await _rules(request, instance))
    services(request).scripts.put(_owner(request, instance), script)
    count = len(script.replies)
    text = f"In force: {count} {'rule' if count == 1 else 'rules'}."
    return await _changed(request, instance, text)


async def confirm_clear(request: Request) -> Response:
    instance = await _instance(request, parse_query(request, ScopeQuery))
    return dialog(request, MACROS, "confirm_clear", instance)


async def clear(request: Request) -> Response:
    instance = await _instance(request, await parse_form(request, ScopeQuery))
    services(request).scripts.remove(_owner(request, instance))
    return await _changed(request, instance, "The rules are cleared.")


def _owner(request: Request, instance: Instance | None) -> Owner:
    return instance.id if instance else caller(request).organization_id


async def _instance(request: Request, scope: ScopeQuery) -> Instance | None:
    if not scope.instance:
        return None
    return await services(request).directory.get(caller(request).organization_id, scope.instance)


async def _changed(request: Request, instance: Instance | None, text: str) -> Response:
    no_problems = part(request, MACROS, "problems", ())
    return notice(request, text, no_problems, await _rules(request, instance))


async def _rules(request: Request, instance: Instance | None, *, oob: bool = True) -> Markup:
    running = services(request).scripts.get(_owner(request, instance))
    unmatched = await _unmatched(request, running)
    return part(request, MACROS, "rules_of", _rows(running), unmatched, running, oob=oob)


async def _unmatched(request: Request, running: ActiveScript | None) -> list[tuple[Unmatched, str]]:
    """The latest messages that no rule matched, with their instances' names."""
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


def _rows(running: ActiveScript | None) -> list[RuleRow]:
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


async def _recording_rows(request: Request) -> list[RecordingRow]:
    """Rows of the organization's newest instances."""
    recordings = services(request).recordings
    counts: dict[str | None, int] = {}
    for call in all_calls(request):
        counts[call.instance_id] = counts.get(call.instance_id, 0) + 1
    rows = []
    for each in await instance_choices(request):
        entries = recordings.entries(each.id)
        count = None if entries is None else len(entries)
        rows.append(RecordingRow(each, counts.get(each.id, 0), count))
    return rows


async def _recordings(request: Request) -> Markup:
    return part(request, MACROS, "recordings_of", await _recording_rows(request), oob=True)


async def download_recording(request: Request) -> Response:
    """The instance's latest model calls as a file, for `load_recording` and the API."""
    instance = await instance_of(request)
    entries = await _recorded(request, instance)
    playback = RecordingPlayback(entries=entries)
    content = await asyncio.to_thread(playback.model_dump_json, indent=2, exclude_none=True)
    body = content.encode()
    name = f"{instance.name}.recording.json"
    return Response(body, headers=HEADERS | attachment(name, len(body)))


async def replay_calls(request: Request) -> Response:
    """Replays the instance's own latest calls from now on."""
    instance = await instance_of(request)
    return await _played(request, instance, await _recorded(request, instance))


async def choose_recording(request: Request) -> Response:
    return dialog(request, MACROS, "choose_recording", await instance_of(request))


async def load_recording(request: Request) -> Response:
    """Replays an uploaded recording from now on."""
    instance = await instance_of(request)
    form, content = form_of(request), bytearray()
    body = await read_body(request, services(request).max_body_bytes)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), PIECE_BYTES):
            yield body[start : start + PIECE_BYTES]
            # Other requests run between the pieces.
            await asyncio.sleep(0)

    async def write(piece: bytes) -> None:
        content.extend(piece)

    await form.read(pieces(), write)
    playback = await asyncio.to_thread(
        lambda: validated(RecordingPlayback, json_of(bytes(content)), "file")
    )
    return await _played(request, instance, dict(sorted(playback.entries.items())))


async def stop_replay(request: Request) -> Response:
    """Ends the replay: the instance calls its models again."""
    instance = await instance_of(request)
    services(request).recordings.remove(instance.id)
    return await _recordings_changed(request, f"{instance.name} calls its models again.")


async def _recorded(request: Request, instance: Instance) -> dict[str, RecordedCall]:
    calls = list(services(request).call_log.of_instance(instance.id))
    # This parses megabytes of JSON.
    return await asyncio.to_thread(make_recording, calls[::-1])


async def _played(
    request: Request, instance: Instance, entries: dict[str, RecordedCall]
) -> Response:
    if not entries:
        text = "It has no complete model call, so it cannot answer anything."
        raise InputInvalid([{"loc": ["recording"], "msg": text, "type": "value_error"}])
    await services(request).recordings.put(instance.id, entries)
    calls = "1 recorded call" if len(entries) == 1 else f"{len(entries)} recorded calls"
    return await _recordings_changed(request, f"{instance.name} now replays {calls}.")


async def _recordings_changed(request: Request, text: str) -> Response:
    return notice(request, text, await _recordings(request))
