"""The path `/mcp`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from chowder_local.api.access import Access, Authorization
from chowder_local.features.mcp.service import McpRequests
from chowder_local.http.endpoints import Endpoint, path_route
from chowder_local.http.message_errors import JSON_RPC_PATH
from chowder_local.http.services import service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from chowder_local.api.operations import Operation


def routes(operations: Sequence[Operation]) -> list[BaseRoute]:
    """The route of the protocol, whose tools are these calls, and check what a key may do."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        manager = await service(Request(scope), McpRequests).manager(operations)
        await manager.handle_request(scope, receive, send)

    app = Authorization(serve, Access.ANY_KEY)
    # The server has no sessions that a GET could follow or a DELETE could end.
    return [path_route(JSON_RPC_PATH, Endpoint({"POST": app}))]
