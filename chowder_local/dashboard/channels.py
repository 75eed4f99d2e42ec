"""Handlers: an instance's messengers, as its agent has them, connected and paired by clicking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from chowder_local.api.schemas.channels import ChannelConnecting, Pairing
from chowder_local.core.errors.agents import ChannelNotFound
from chowder_local.dashboard.channel_rows import Seen, line_of, seen
from chowder_local.dashboard.forms import form
from chowder_local.dashboard.lazy_fragment import answered, running_of
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.services import fragment
from chowder_local.dashboard.tabs import instance_page
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import instance_of, services
from chowder_local.openclaw.channel_table import CHANNELS
from chowder_local.openclaw.channels import ConnectionStatus

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.openclaw.channel_table import Channel


async def show(request: Request) -> Response:
    """The page; what the agent has to tell comes behind it."""
    return await instance_page(
        request, "channels.html", await instance_of(request), tab="/channels"
    )


async def index(request: Request) -> Response:
    """All channels there are, each with its state and its form."""
    return await answered(request, "channel_list.html", _listed, again="/channels/list")


async def watch(request: Request) -> Response:
    """The states that are others than those which the page has shown; forms stay as they are."""
    await instance_of(request)
    known = parse_query(request, Seen).digests

    async def ask(request: Request, instance: Instance) -> dict[str, Any]:
        listed = await _listed(request, instance)
        changed = [each for each in listed["lines"] if known.get(each.channel.name) != each.digest]
        return listed | {"changed": changed}

    response = await answered(request, "channel_states.html", ask, again="/channels/list")
    # Nothing to put in place: a picture that is looked at stays where it is.
    return response if bytes(response.body).strip() else Response(status_code=204, headers=HEADERS)


async def connect(request: Request) -> Response:
    """Switches a channel on with what was typed, laid over what the agent has."""
    instance = await running_of(request)
    channel = _channel(request)
    sent = validated(ChannelConnecting, {"config": await form(request)}, "body")
    connection = await services(request).channels.connect(instance, channel, sent.config)
    words = connection.message
    if connection.status is ConnectionStatus.AWAITING_SCAN:
        words = f"{line_of(channel, None, None).title} waits for the code to be scanned."
    return await _changed(request, instance, channel, words)


async def pair(request: Request) -> Response:
    """Lets the sender in who was given the code."""
    instance = await running_of(request)
    channel = _channel(request)
    sent = validated(Pairing, await form(request), "body")
    said = await services(request).channels.pair(instance, channel, sent.code)
    return await _changed(request, instance, channel, said)


async def ask_disconnect(request: Request) -> Response:
    """The question whether it is really to be switched off."""
    instance = await instance_of(request)
    line = line_of(_channel(request), None, None)
    return fragment(request, "disconnect.html", it=instance, line=line)


async def disconnect(request: Request) -> Response:
    """Switches a channel off; its credentials are kept."""
    instance = await running_of(request)
    channel = _channel(request)
    await services(request).channels.disconnect(instance, channel)
    words = f"{line_of(channel, None, None).title} is switched off."
    return await _changed(request, instance, channel, words)


async def _listed(request: Request, instance: Instance) -> dict[str, Any]:
    known = services(request).channels
    lines = [
        line_of(CHANNELS[state.channel], state, known.qr_login(instance, CHANNELS[state.channel]))
        for state in await known.states(instance)
    ]
    is_coming = any(each.is_coming for each in lines)
    return {"lines": lines, "seen": seen(lines), "is_coming": is_coming}


async def _changed(request: Request, instance: Instance, channel: Channel, words: str) -> Response:
    """The channel anew, and how all are: what the page says that it has seen is what it shows."""
    listed = await _listed(request, instance)
    (line,) = (each for each in listed["lines"] if each.channel is channel)
    others = [each for each in listed["lines"] if each is not line]
    context = listed | {"it": instance, "line": line, "others": others, "words": words}
    return fragment(request, "channel_changed.html", **context)


def _channel(request: Request) -> Channel:
    channel = CHANNELS.get(request.path_params["channel"])
    if channel is None:
        raise ChannelNotFound
    return channel
