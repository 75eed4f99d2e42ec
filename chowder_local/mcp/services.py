"""The services of a server with the Model Context Protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.dashboard.services import DashboardServices

if TYPE_CHECKING:
    from chowder_local.mcp.requests import McpRequests


@dataclass(frozen=True)
class McpServices(DashboardServices):
    """The services of a whole server."""

    mcp: McpRequests
