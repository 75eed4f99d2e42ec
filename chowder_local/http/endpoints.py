"""An endpoint with an ASGI application for each method of a path, and the path's route."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    Handler = Callable[[Request], Awaitable[Response]]


class Endpoint:
    """Passes a path's requests to the application of their method; lets errors through."""

    def __init__(self, apps: Mapping[str, ASGIApp], audited: Collection[str] = ()) -> None:
        self.apps = apps
        self.audited = audited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette's routes take HEAD wherever they take GET.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        app = self.apps.get(method)
        if app is None:
            raise HTTPException(405, headers={"Allow": ", ".join(self.apps)})
        await app(scope, receive, send)


def request_response(handler: Handler) -> ASGIApp:
    """Wraps a handler as an ASGI application, without Starlette's own rendering of errors."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as scope["state"]["exits"]:
            response = await handler(Request(scope, receive, send))
            await response(scope, receive, send)

    return respond


def path_route(path: str, endpoint: Endpoint, *, takes_any_method: bool = False) -> Route:
    """Makes the one route of a path, which has to match to its last character.

    With a route for each method, a 405 would name only the first one's. If it `takes_any_method`,
    a method that it lacks is a 405, even if a later route would match.
    """
    route = Route(path, endpoint, methods=None if takes_any_method else list(endpoint.apps))
    # A parameter may contain a line feed, and `$` would ignore one at the end.
    exactly = route.path_regex.pattern.removesuffix("$") + r"\Z"
    route.path_regex = re.compile(exactly, re.DOTALL)
    return route
