"""The protocol's server, which begins with the first request of a client."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from chowder_local.api.operations import PICTURE_BODY_BYTES
from chowder_local.core.tasks import logging_errors
from chowder_local.features.mcp.errors import ToolsUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from chowder_local.api.operations import Operation
    from chowder_local.core.domain import Caller
    from chowder_local.diagnostics.checks import ServerDiagnosis
    from chowder_local.features.mcp.server import Calls


@dataclass(eq=False, repr=False)
class McpRequests:
    """Requests of the protocol. Each is by itself: the server keeps no sessions."""

    tasks: asyncio.TaskGroup
    diagnosis: ServerDiagnosis
    max_body_bytes: int

    def __post_init__(self) -> None:
        self._manager: asyncio.Future[StreamableHTTPSessionManager] | None = None

    async def manager(self, operations: Sequence[Operation]) -> StreamableHTTPSessionManager:
        """What answers requests, with tools that are made of these rows of the route table.

        Raises ToolsUnavailable.
        """
        if self._manager is None:
            self._manager = asyncio.get_running_loop().create_future()
            self.tasks.create_task(self._serve(operations, self._manager))
        return await asyncio.shield(self._manager)

    async def _serve(
        self,
        operations: Sequence[Operation],
        ready: asyncio.Future[StreamableHTTPSessionManager],
    ) -> None:
        try:
            with logging_errors("serving the Model Context Protocol"):
                await self._run(operations, ready)
        finally:
            self._manager = None
            if not ready.done():
                # The requests that wait for the beginning get this error; the next one tries again.
                ready.set_exception(ToolsUnavailable())

    async def _run(
        self,
        operations: Sequence[Operation],
        ready: asyncio.Future[StreamableHTTPSessionManager],
    ) -> None:
        # Loading the protocol takes most of a second, and most servers never need it.
        await asyncio.to_thread(import_module, "chowder_local.features.mcp.server")
        import httpx
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from chowder_local.features.mcp.server import Calls, ToolServer
        from chowder_local.features.mcp.tools import tools

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
                ToolServer(calls_of, caller_of, self.diagnosis, tools(operations)).make(),
                stateless=True,
                max_request_body_size=min(self.max_body_bytes, PICTURE_BODY_BYTES),
            )
            async with manager.run():
                ready.set_result(manager)
                # The tools stay until the server stops.
                await asyncio.Event().wait()


def _root_url(scope: Mapping[str, Any]) -> str:
    """This server's address, as the request has reached it."""
    host, port = scope["server"]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
