"""Handlers: looking into an instance from the machine that it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from chowder_local.errors import InputInvalid
from chowder_local.web.state import instance_of, services
from chowder_local.web.streams import ClosingStream

if TYPE_CHECKING:
    from starlette.requests import Request

LINES_MAX = 100_000
TRUE = {"1", "true", "yes"}


async def logs(request: Request) -> Response:
    """What the instance's sandbox printed; with `follow`, what it goes on to print."""
    instance = await instance_of(request)
    line_count = _line_count(request.query_params.get("tail", "200"))
    engine = services(request).engine
    if request.query_params.get("follow", "").lower() in TRUE:
        lines = engine.follow_log(instance.sandbox_id, line_count)
        return ClosingStream(lines, media_type="text/plain")
    text = await engine.log_tail(instance.sandbox_id, line_count)
    return Response(text, media_type="text/plain")


async def gateway(request: Request) -> JSONResponse:
    """The address and token by which this machine reaches the agent's gateway directly."""
    instance = await instance_of(request)
    token = services(request).vault.gateway_token(instance.sandbox_id)
    return JSONResponse({"gateway_url": instance.gateway_url, "token": token})


def _line_count(text: str) -> int:
    # Its length first: Python refuses to read a number of thousands of digits.
    if len(text) <= len(str(LINES_MAX)) and text.isdecimal() and 0 < int(text) <= LINES_MAX:
        return int(text)
    problem = f"Input should be a whole number from 1 to {LINES_MAX}"
    raise InputInvalid([{"loc": ["query", "tail"], "msg": problem, "type": "int_parsing"}])
