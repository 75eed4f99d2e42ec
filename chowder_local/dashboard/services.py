"""Services that only the dashboard's handlers use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from chowder_local.http.services import Services, services

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.accounts.dashboard_sessions import DashboardSessions
    from chowder_local.dashboard.assets import Assets
    from chowder_local.dashboard.chat_stream import ChatStreams
    from chowder_local.dashboard.rendering import Rendering
    from chowder_local.diagnostics.server import ServerDiagnosis
    from chowder_local.instances.monitoring.usage_samples import UsageSamples


@dataclass(frozen=True)
class Dashboard:
    """The dashboard's services; `env_command` sets base URL and key in a shell."""

    dashboard_sessions: DashboardSessions
    usage_samples: UsageSamples
    server_diagnosis: ServerDiagnosis
    assets: Assets
    rendering: Rendering
    chat_streams: ChatStreams
    base_url: str
    env_command: str


@dataclass(frozen=True)
class DashboardServices(Services):
    """The services of a server that has a dashboard."""

    dashboard: Dashboard


def dashboard(request: Request) -> Dashboard:
    return cast("DashboardServices", services(request)).dashboard
