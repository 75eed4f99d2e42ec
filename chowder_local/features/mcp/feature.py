"""What tools for editors add to the server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chowder_local.features.feature import Feature, Front
from chowder_local.features.mcp.service import McpRequests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.services import Services


@asynccontextmanager
async def open_mcp(kernel: Services) -> AsyncIterator[McpRequests]:
    yield McpRequests(kernel.tasks, kernel.server_diagnosis, kernel.settings.max_body_bytes)


def front() -> Front:
    from chowder_local.features.mcp import api

    return Front(routes=api.routes)


FEATURE = Feature("mcp", __package__, open_mcp, front)
