"""What answers at a path: an application for each method, and the route that leads to them."""

from __future__ import annotations

import re
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
    """A path's applications by method; what they raise is rendered where everything is."""

    def __init__(self, apps: Mapping[str, ASGIApp], audited: Collection[str] = ()) -> None:
        self.apps = apps
        self.audited = audited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette lets HEAD in wherever GET is.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        app = self.apps.get(method)
        if app is None:
            raise HTTPException(405, headers={"Allow": ", ".join(self.apps)})
        await app(scope, receive, send)


def responding(handler: Handler) -> ASGIApp:
    """A handler as an application, without Starlette's own rendering of errors."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)

    return respond


def path_route(path: str, endpoint: Endpoint, *, takes_any_method: bool = False) -> Route:
    """The route of a path, which has to match to its last character.

    With a route for each method, a refusal would name that of the path's first one alone. One that
    `takes_any_method` is tried for those that it has none for, too: no later route is.
    """
    made = Route(path, endpoint, methods=None if takes_any_method else list(endpoint.apps))
    # A name may have lines, and a path that ends with the end of one is another path.
    exactly = made.path_regex.pattern.removesuffix("$") + r"\Z"
    made.path_regex = re.compile(exactly, re.DOTALL)
    return made
