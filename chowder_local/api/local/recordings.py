"""Handlers: an instance's model calls as a recording, and answering them from one."""

from __future__ import annotations

import asyncio
from itertools import takewhile
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from chowder_local.api.schemas.recordings import RecordingPlayback, RecordingQuery, RecordingView
from chowder_local.http.bodies import parse, parse_query
from chowder_local.http.services import instance_of, services
from chowder_local.relay.recordings.registry import make_recording

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.core.domain import Instance


async def show(request: Request) -> JSONResponse:
    """The instance's latest model calls as a recording: as many as are still in memory.

    Those that failed, or whose answer was longer than a megabyte, are not in it.
    """
    instance = await instance_of(request)
    return await _shown(request, instance, parse_query(request, RecordingQuery).after)


async def put(request: Request) -> JSONResponse:
    """Has the instance's model calls answered from a recording, without any provider.

    A call that it does not have fails, and says what differs from the nearest one.
    """
    instance = await instance_of(request)
    playback = await parse(request, RecordingPlayback)
    services(request).recordings.put(instance.id, dict(sorted(playback.entries.items())))
    return await _shown(request, instance)


async def remove(request: Request) -> Response:
    """Leaves the instance's model calls to its models again."""
    services(request).recordings.remove((await instance_of(request)).id)
    return Response(status_code=204)


async def _shown(request: Request, instance: Instance, after: str | None = None) -> JSONResponse:
    known = services(request)
    # The oldest are dropped first: where that one is not there any more, all are after it.
    of_instance = known.exchanges.of_instance(instance.id)
    latest = list(takewhile(lambda each: each.id != after, of_instance))
    view = RecordingView(
        # Megabytes of JSON are read for that.
        entries=await asyncio.to_thread(make_recording, latest[::-1]),
        is_replayed=known.recordings.entries(instance.id) is not None,
    )
    return JSONResponse(view.model_dump(mode="json", exclude_none=True))
