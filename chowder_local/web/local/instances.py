"""Handlers: looking into an instance from the machine that it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from chowder_local.web.bodies import parse_query
from chowder_local.web.payloads.local import LogQuery
from chowder_local.web.state import instance_of, services
from chowder_local.web.streams import ClosingStream

if TYPE_CHECKING:
    from starlette.requests import Request


async def logs(request: Request) -> Response:
    """What the instance's sandbox printed; with `follow`, what it goes on to print."""
    instance = await instance_of(request)
    query = parse_query(request, LogQuery)
    engine = services(request).engine
    if query.follow:
        lines = engine.follow_log(instance.sandbox_id, query.tail)
        stopping = services(request).stopping
        return ClosingStream(lines, stopping=stopping, media_type="text/plain")
    text = await engine.log_tail(instance.sandbox_id, query.tail)
    return Response(text, media_type="text/plain")


async def gateway(request: Request) -> JSONResponse:
    """The address and token by which this machine reaches the agent's gateway directly."""
    instance = await instance_of(request)
    token = services(request).vault.gateway_token(instance.sandbox_id)
    return JSONResponse({"gateway_url": instance.gateway_url, "token": token})
