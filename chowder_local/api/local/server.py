"""Handlers: what the local server says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from chowder_local.core.metrics import CONTENT_TYPE
from chowder_local.http.services import services

if TYPE_CHECKING:
    from starlette.requests import Request


async def health(request: Request) -> JSONResponse:
    """Versions, places, counts, and whether the engine answers."""
    return JSONResponse(await services(request).health.report())


async def ready(_: Request) -> JSONResponse:
    """That calls are taken: before the lifespan has begun, nothing answers here."""
    return JSONResponse({"ready": True})


async def metrics(request: Request) -> Response:
    """Counts, durations and states in the text format of Prometheus; README lists them all."""
    known = services(request)
    told = known.metrics.render(await known.health.figures())
    return Response(told, media_type=CONTENT_TYPE)
