"""A minimal Starlette server with this server's settings: the upper bound for requests/s.

Run as `python -m benchmarks.empty_app HOST PORT`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import uvloop
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from chowder_local.http.listener import bound_socket, listener

if TYPE_CHECKING:
    from starlette.requests import Request


async def empty(_: Request) -> JSONResponse:
    """Answers with an empty body."""
    return JSONResponse({})


def main(host: str, port: int) -> None:
    """Serves until the process is ended."""
    app = Starlette(routes=[Route("/", empty)])
    with (
        bound_socket(host, port) as bound,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(listener(app).serve(sockets=[bound]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
