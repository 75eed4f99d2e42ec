"""Handlers: what instances' model calls are answered from, instead of by their models."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response

from chowder_local.api.schemas.model_calls import RecordingPlayback
from chowder_local.api.uploads import form_of
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.dashboard.instance_names import choices
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.services import fragment
from chowder_local.http.bodies import json_of, read_body, validated
from chowder_local.http.responses import attachment
from chowder_local.http.services import caller, instance_of, services
from chowder_local.relay.recordings.registry import recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.relay.recordings.entries import Entry


@dataclass(frozen=True)
class RecordingLine:
    """An instance, how many of its model calls are in memory, and what it is answered from."""

    instance: Instance
    calls: int
    entries: int | None
    """So many recorded calls; None if it is not answered from a recording."""


async def recording_lines(request: Request) -> list[RecordingLine]:
    """The organization's newest instances."""
    known = services(request)
    counts: dict[str | None, int] = {}
    for call in known.exchanges.of_organization(caller(request).organization_id):
        counts[call.instance_id] = counts.get(call.instance_id, 0) + 1
    lines = []
    for each in await choices(request):
        entries = known.recordings.entries(each.id)
        played = None if entries is None else len(entries)
        lines.append(RecordingLine(each, counts.get(each.id, 0), played))
    return lines


async def download(request: Request) -> Response:
    """The instance's latest model calls as a file, which `load` and the API take."""
    instance = await instance_of(request)
    content = await asyncio.to_thread(
        lambda entries: RecordingPlayback(entries=entries).model_dump_json(
            indent=2, exclude_none=True
        ),
        await _recorded(request, instance),
    )
    body = content.encode()
    name = f"{instance.name}.recording.json"
    return Response(body, headers=HEADERS | attachment(name, len(body)))


async def play(request: Request) -> Response:
    """Answers it from its own latest calls from now on."""
    instance = await instance_of(request)
    return await _played(request, instance, await _recorded(request, instance))


async def ask_load(request: Request) -> Response:
    """The question for a file."""
    return fragment(request, "load_recording.html", instance=await instance_of(request))


async def load(request: Request) -> Response:
    """Answers it from what a file has."""
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
    """Leaves it to its models again."""
    instance = await instance_of(request)
    services(request).recordings.remove(instance.id)
    return await _changed(request, f"{instance.name} asks its models again.")


async def _recorded(request: Request, instance: Instance) -> dict[str, Entry]:
    calls = list(services(request).exchanges.of_instance(instance.id))
    # Megabytes of JSON are read for that.
    return await asyncio.to_thread(recorded, calls[::-1])


async def _played(request: Request, instance: Instance, entries: dict[str, Entry]) -> Response:
    if not entries:
        words = "There is no whole model call in it, so nothing could be answered."
        raise InputInvalid([{"loc": ["recording"], "msg": words, "type": "value_error"}])
    services(request).recordings.put(instance.id, entries)
    calls = "1 recorded call" if len(entries) == 1 else f"{len(entries)} recorded calls"
    return await _changed(request, f"{instance.name} is answered from {calls}.")


async def _changed(request: Request, words: str) -> Response:
    lines = await recording_lines(request)
    return fragment(request, "recordings_changed.html", words=words, recordings=lines)
