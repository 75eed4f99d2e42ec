"""Handlers: the channels of an agent, which connect it to messengers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.api.schemas.channels import (
    ChannelConnecting,
    ChannelInfoView,
    ChannelStatusView,
    ChannelView,
    ConnectionView,
    Pairing,
    PairingRequestView,
    PairingView,
)
from chowder_local.core.errors.agents import ChannelNotFound
from chowder_local.http.bodies import parse
from chowder_local.http.services import running_instance, services
from chowder_local.openclaw.channel_table import CHANNELS

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.openclaw.channel_table import Channel


async def index(request: Request) -> list[ChannelView]:
    """All channels, and whether each is enabled."""
    enabled = await services(request).channels.enabled(await running_instance(request))
    return [
        ChannelView(
            channel=name, connection_type=CHANNELS[name].connection_type, enabled=is_enabled
        )
        for name, is_enabled in enabled.items()
    ]


async def info(request: Request) -> ChannelInfoView:
    """The fields that connecting a channel requires; the same for every agent."""
    return ChannelInfoView.from_channel(_channel(request))


async def connect(request: Request) -> ConnectionView:
    """Enables a channel with the credentials of the body, or with those that it has."""
    channel = _channel(request)
    body = await parse(request, ChannelConnecting)
    agent = await running_instance(request)
    connection = await services(request).channels.connect(agent, channel, body.config)
    return ConnectionView.model_validate(connection)


async def status(request: Request) -> ChannelStatusView:
    """Whether a channel is connected, and if not, why."""
    channel = _channel(request)
    state = await services(request).channels.state(await running_instance(request), channel)
    return ChannelStatusView.from_state(state)


async def pairings(request: Request) -> list[PairingRequestView]:
    """The people who wait until somebody approves them, oldest first."""
    channel = _channel(request)
    waiting = await services(request).channels.pairings(await running_instance(request), channel)
    return [PairingRequestView.model_validate(each) for each in waiting]


async def pair(request: Request) -> PairingView:
    """Approves the sender who got the pairing code, so that the agent answers."""
    channel = _channel(request)
    body = await parse(request, Pairing)
    agent = await running_instance(request)
    output = await services(request).channels.pair(agent, channel, body.code)
    return PairingView(channel=channel.name, code=body.code, status="paired", output=output)


async def disconnect(request: Request) -> None:
    """Disables a channel, and keeps its credentials for the next connection."""
    channel = _channel(request)
    await services(request).channels.disconnect(await running_instance(request), channel)


def _channel(request: Request) -> Channel:
    channel = CHANNELS.get(request.path_params["channel"])
    if channel is None:
        raise ChannelNotFound
    return channel
