"""The path `/mcp`, and the requests of the protocol, whose server begins with the first one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from chowder_local.api.access import Access, Authorization
from chowder_local.api.operations import PICTURE_BODY_BYTES
from chowder_local.core.errors.process import ToolsUnavailable
from chowder_local.core.tasks import logging_errors
from chowder_local.http.endpoints import Endpoint, path_route
from chowder_local.http.message_errors import JSON_RPC_PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.routing import Route
    from starlette.types import Receive, Scope, Send

    from chowder_local.api.operations import Operation
    from chowder_local.core.domain import Caller
    from chowder_local.diagnostics.checks import ServerDiagnosis
    from chowder_local.mcp.server import Calls


@dataclass(eq=False, repr=False)
class McpRequests:
    """Requests of the protocol. Each is by itself: the server keeps no sessions."""

    tasks: asyncio.TaskGroup
    diagnosis: ServerDiagnosis
    max_body_bytes: int
    operations: Sequence[Operation]
    """The route table, of which the tools are made."""

    def __post_init__(self) -> None:
        self._manager: asyncio.Future[StreamableHTTPSessionManager] | None = None

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request of a client whose key was checked. Raises ToolsUnavailable."""
        if self._manager is None:
            self._manager = asyncio.get_running_loop().create_future()
            self.tasks.create_task(self._serve(self._manager))
        manager = await asyncio.shield(self._manager)
        await manager.handle_request(scope, receive, send)

    async def _serve(self, ready: asyncio.Future[StreamableHTTPSessionManager]) -> None:
        try:
            with logging_errors("serving the Model Context Protocol"):
                await self._run(ready)
        finally:
            self._manager = None
            if not ready.done():
                # The requests that wait for the beginning get this error; the next one tries again.
                ready.set_exception(ToolsUnavailable())

    async def _run(self, ready: asyncio.Future[StreamableHTTPSessionManager]) -> None:
        # Loading the protocol takes most of a second, and most servers never need it.
        await asyncio.to_thread(import_module, "chowder_local.mcp.server")
        import httpx
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from chowder_local.mcp.server import Calls, ToolServer
        from chowder_local.mcp.tools import tools

        # A turn may take any time. The environment's proxies are not for calls on this machine.
        async with httpx.AsyncClient(
            timeout=httpx.Timeout(None), limits=httpx.Limits(), trust_env=False
        ) as http:

            def calls_of(context: Any) -> Calls:
                request = context.request
                return Calls(
                    http,
                    _root_url(request.scope),
                    {"Authorization": request.headers["Authorization"]},
                    lambda done, words: context.session.report_progress(done, message=words),
                )

            def caller_of(context: Any) -> Caller:
                return cast("Caller", context.request.scope["state"]["caller"])

            manager = StreamableHTTPSessionManager(
                ToolServer(calls_of, caller_of, self.diagnosis, tools(self.operations)).make(),
                stateless=True,
                max_request_body_size=min(self.max_body_bytes, PICTURE_BODY_BYTES),
            )
            async with manager.run():
                ready.set_result(manager)
                # The tools stay until the server stops.
                await asyncio.Event().wait()


def _root_url(scope: Scope) -> str:
    """This server's address, as the request has reached it."""
    host, port = scope["server"]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _serve_request(scope: Scope, receive: Receive, send: Send) -> None:
    requests: McpRequests = scope["state"]["mcp"]
    await requests.handle(scope, receive, send)


def mcp_route() -> Route:
    """The route of the protocol, whose tools check what a key may do."""
    app = Authorization(_serve_request, Access.ANY_KEY)
    # The server has no sessions that a GET could follow or a DELETE could end.
    return path_route(JSON_RPC_PATH, Endpoint({"POST": app}))
