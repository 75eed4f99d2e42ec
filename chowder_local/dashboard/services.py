"""What the lifespan opened for the dashboard's handlers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.dashboard.assets import Assets
    from chowder_local.dashboard.chat_stream import ChatStreams
    from chowder_local.dashboard.rendering import Rendering


@dataclass(frozen=True)
class Dashboard:
    """What only the dashboard has; `env_command` sets base URL and key in a shell."""

    assets: Assets
    rendering: Rendering
    chat_streams: ChatStreams
    base_url: str
    env_command: str


def dashboard(request: Request) -> Dashboard:
    return cast("Dashboard", request.scope["state"]["dashboard"])
