"""Recordings that answer instances' model calls in place of their models."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response

from chowder_local.api.schemas.model_calls import RecordingPlayback
from chowder_local.api.uploads import form_of
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.dashboard.instances import instance_choices
from chowder_local.dashboard.pages import notice, part, parts
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.http.bodies import json_of, read_body, validated
from chowder_local.http.responses import attachment
from chowder_local.http.services import caller, instance_of, services
from chowder_local.relay.recordings.registry import recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from markupsafe import Markup
    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.relay.recordings.entries import Entry


MACROS = "_replies.html"


@dataclass(frozen=True)
class RecordingRow:
    """An instance, and how many of its model calls are in memory."""

    instance: Instance
    calls: int
    entries: int | None
    """The number of recorded calls; None if it is not answered from a recording."""


async def build_rows(request: Request) -> list[RecordingRow]:
    """The organization's newest instances."""
    known = services(request)
    counts: dict[str | None, int] = {}
    for call in known.exchanges.of_organization(caller(request).organization_id):
        counts[call.instance_id] = counts.get(call.instance_id, 0) + 1
    rows = []
    for each in await instance_choices(request):
        entries = known.recordings.entries(each.id)
        count = None if entries is None else len(entries)
        rows.append(RecordingRow(each, counts.get(each.id, 0), count))
    return rows


async def render_list(request: Request) -> Markup:
    return part(request, MACROS, "recordings_of", await build_rows(request), oob=True)


async def download(request: Request) -> Response:
    """The instance's latest model calls as a file for `load` and the API."""
    instance = await instance_of(request)
    entries = await _recorded(request, instance)
    playback = RecordingPlayback(entries=entries)
    content = await asyncio.to_thread(playback.model_dump_json, indent=2, exclude_none=True)
    body = content.encode()
    name = f"{instance.name}.recording.json"
    return Response(body, headers=HEADERS | attachment(name, len(body)))


async def play(request: Request) -> Response:
    """Answers the instance from its own latest calls from now on."""
    instance = await instance_of(request)
    return await _played(request, instance, await _recorded(request, instance))


async def choose_file(request: Request) -> Response:
    return parts(part(request, MACROS, "load_dialog", await instance_of(request)))


async def load(request: Request) -> Response:
    """Answers the instance from a file from now on."""
    instance = await instance_of(request)
    form, content = form_of(request), bytearray()
    body = await read_body(request, services(request).max_body_bytes)

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    async def write(piece: bytes) -> None:
        content.extend(piece)

    await form.read(pieces(), write)
    playback = await asyncio.to_thread(
        lambda: validated(RecordingPlayback, json_of(bytes(content)), "file")
    )
    return await _played(request, instance, dict(sorted(playback.entries.items())))


async def stop(request: Request) -> Response:
    """Has the instance call its models again."""
    instance = await instance_of(request)
    services(request).recordings.remove(instance.id)
    return await _changed(request, f"{instance.name} calls its models again.")


async def _recorded(request: Request, instance: Instance) -> dict[str, Entry]:
    calls = list(services(request).exchanges.of_instance(instance.id))
    # That parses megabytes of JSON.
    return await asyncio.to_thread(recorded, calls[::-1])


async def _played(request: Request, instance: Instance, entries: dict[str, Entry]) -> Response:
    if not entries:
        text = "There is no complete model call in it, so nothing could be answered."
        raise InputInvalid([{"loc": ["recording"], "msg": text, "type": "value_error"}])
    services(request).recordings.put(instance.id, entries)
    calls = "1 recorded call" if len(entries) == 1 else f"{len(entries)} recorded calls"
    return await _changed(request, f"{instance.name} is answered from {calls}.")


async def _changed(request: Request, text: str) -> Response:
    return notice(request, text, await render_list(request))
