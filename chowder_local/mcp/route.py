"""The path `/mcp`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.api.access import Access, Authorization
from chowder_local.http.endpoints import Endpoint, path_route

if TYPE_CHECKING:
    from starlette.routing import Route
    from starlette.types import Receive, Scope, Send

    from chowder_local.mcp.requests import McpRequests

PATH = "/mcp"


async def _serve_request(scope: Scope, receive: Receive, send: Send) -> None:
    requests: McpRequests = scope["state"]["mcp"]
    await requests.handle(scope, receive, send)


def mcp_route() -> Route:
    """The route of the protocol, whose tools check what a key may do."""
    app = Authorization(_serve_request, Access.ANY_KEY)
    # Without sessions there is nothing that a GET could follow, or a DELETE end.
    return path_route(PATH, Endpoint({"POST": app}))
