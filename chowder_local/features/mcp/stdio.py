"""The protocol on standard input and output, for editors that want a process of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from chowder_local import __version__

if TYPE_CHECKING:
    import mcp_types as types
    from mcp.server.context import ServerRequestContext

    Context = ServerRequestContext[Any]
    Page = types.PaginatedRequestParams | None


async def serve(url: str, key: str) -> None:
    """Passes requests on to a server's `url`, until standard input ends.

    Raises what the protocol's client raises, if the server does not answer.
    """
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        # A turn may take any time. The environment's proxies are not for calls on this machine.
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(None), trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http)) as remote,
        stdio_server() as (incoming, outgoing),
    ):
        server = _relay(remote)
        await server.run(incoming, outgoing, server.create_initialization_options())


def _relay(remote: Client) -> Server[Any]:
    async def list_tools(_: Context, __: Page) -> types.ListToolsResult:
        return await remote.list_tools()

    async def call_tool(
        context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        progress = context.session.report_progress
        return await remote.call_tool(params.name, params.arguments, progress_callback=progress)

    async def list_resources(_: Context, __: Page) -> types.ListResourcesResult:
        return await remote.list_resources()

    async def list_templates(_: Context, __: Page) -> types.ListResourceTemplatesResult:
        return await remote.list_resource_templates()

    async def read_resource(
        _: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        return await remote.read_resource(str(params.uri))

    return Server(
        "chowder-local",
        version=__version__,
        instructions=remote.instructions,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )
