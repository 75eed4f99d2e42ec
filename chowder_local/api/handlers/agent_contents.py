"""Handlers: the files, channels and skills of an agent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.responses import Response

from chowder_local.api.schemas.agent_contents import (
    ChannelConnecting,
    ChannelInfoView,
    ChannelStatusView,
    ChannelView,
    ConnectionView,
    FileQuery,
    FileView,
    FileWriting,
    FolderQuery,
    Pairing,
    PairingRequestView,
    PairingView,
    SkillChange,
    SkillDetailsView,
    SkillInstallation,
    SkillInstallationView,
    SkillQuery,
    SkillView,
)
from chowder_local.api.uploads import upload_into
from chowder_local.core.domain import InstanceId
from chowder_local.core.errors.agents import ChannelNotFound
from chowder_local.http import responses
from chowder_local.http.bodies import parse, parse_query
from chowder_local.http.responses import JSON
from chowder_local.http.services import require_living, running_instance, services
from chowder_local.openclaw.channel_table import CHANNELS

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.openclaw.channel_table import Channel
    from chowder_local.openclaw.files import Folder

ENTRIES_AT_ONCE = 1000
"""While they are encoded, no other thread runs."""


async def list_files(request: Request) -> Response:
    """The entries of a folder, sorted by name. Symbolic links are listed, not followed."""
    query = parse_query(request, FolderQuery)
    agent = await running_instance(request)
    folder = await services(request).files.folder(agent.sandbox_id, query.path)
    return Response(await asyncio.to_thread(_json, folder), media_type=JSON)


async def read_file(request: Request) -> FileView:
    """A text file's content. Download a file that is not UTF-8, or is larger than 10 MiB."""
    query = parse_query(request, FileQuery)
    agent = await running_instance(request)
    content = await services(request).files.text(agent.sandbox_id, query.path)
    return FileView(path=query.path, content=content)


async def write_file(request: Request) -> None:
    """Creates or replaces a text file atomically, and creates the folders above it."""
    body = await parse(request, FileWriting)
    agent = await running_instance(request)
    await services(request).files.write_text(agent.sandbox_id, body.path, body.content)


async def upload_file(request: Request) -> None:
    """Creates or replaces a file of any size, once all of it has arrived."""
    agent = await running_instance(request)
    await upload_into(request, agent.sandbox_id)


async def download_file(request: Request) -> Response:
    """The bytes of a file."""
    query = parse_query(request, FileQuery)
    agent = await running_instance(request)
    file = await services(request).files.download(agent.sandbox_id, query.path)
    return await responses.download(request, file.name, file.size, file.chunks)


def _json(folder: Folder) -> bytes:
    entries = folder.entries
    pieces = [
        to_json(entries[start : start + ENTRIES_AT_ONCE])[1:-1]
        for start in range(0, len(entries), ENTRIES_AT_ONCE)
    ]
    return b'{"path":%b,"entries":[%b]}' % (to_json(folder.path), b",".join(pieces))


async def list_channels(request: Request) -> list[ChannelView]:
    """All channels, and whether each is enabled."""
    enabled = await services(request).channels.enabled(await running_instance(request))
    return [
        ChannelView(
            channel=name, connection_type=CHANNELS[name].connection_type, enabled=is_enabled
        )
        for name, is_enabled in enabled.items()
    ]


async def get_channel(request: Request) -> ChannelInfoView:
    """The fields that connecting a channel requires; the same for every agent."""
    instance_id = InstanceId(request.path_params["instance_id"])
    require_living(await services(request).instances.get(instance_id))
    return ChannelInfoView.from_channel(_channel(request))


async def connect_channel(request: Request) -> ConnectionView:
    """Enables a channel with the credentials of the body, or with those that it has."""
    channel = _channel(request)
    body = await parse(request, ChannelConnecting)
    agent = await running_instance(request)
    connection = await services(request).channels.connect(agent, channel, body.config)
    return ConnectionView.model_validate(connection)


async def get_channel_status(request: Request) -> ChannelStatusView:
    """Whether a channel is connected, and if not, why."""
    channel = _channel(request)
    state = await services(request).channels.state(await running_instance(request), channel)
    return ChannelStatusView.from_state(state)


async def list_pairings(request: Request) -> list[PairingRequestView]:
    """The people who wait until somebody approves them, oldest first."""
    channel = _channel(request)
    waiting = await services(request).channels.pairings(await running_instance(request), channel)
    return [PairingRequestView.model_validate(each) for each in waiting]


async def approve_pairing(request: Request) -> None:
    """Approves who waits with a pairing code, in OpenClaw's database instead of by its command.

    That takes a fraction of a second, tells the person nothing, and makes nobody the owner.
    """
    channel = _channel(request)
    agent = await running_instance(request)
    code = request.path_params["code"]
    await services(request).channels.admit(agent, channel, code=code)


async def pair_channel(request: Request) -> PairingView:
    """Approves the sender who got the pairing code, so that the agent answers."""
    channel = _channel(request)
    body = await parse(request, Pairing)
    agent = await running_instance(request)
    output = await services(request).channels.pair(agent, channel, body.code)
    return PairingView(channel=channel.name, code=body.code, status="paired", output=output)


async def disconnect_channel(request: Request) -> None:
    """Disables a channel, and keeps its credentials for the next connection."""
    channel = _channel(request)
    await services(request).channels.disconnect(await running_instance(request), channel)


def _channel(request: Request) -> Channel:
    channel = CHANNELS.get(request.path_params["channel"])
    if channel is None:
        raise ChannelNotFound
    return channel


async def list_skills(request: Request) -> list[SkillView]:
    """The agent's skills: OpenClaw's own, those from ClawHub, and those in its workspace."""
    query = parse_query(request, SkillQuery)
    skills = await services(request).skills.list_skills(
        await running_instance(request), is_ready_only=query.eligible_only
    )
    return [SkillView.model_validate(each) for each in skills]


async def get_skill(request: Request) -> SkillDetailsView:
    """One skill."""
    agent = await running_instance(request)
    skill = await services(request).skills.get(agent, request.path_params["skill_name"])
    return SkillDetailsView.model_validate(skill)


async def install_skill(request: Request) -> SkillInstallationView:
    """Installs a skill from ClawHub, as OpenClaw's own client does."""
    body = await parse(request, SkillInstallation)
    agent = await running_instance(request)
    installation = await services(request).skills.install(agent, body.slug, body.env or {})
    return SkillInstallationView.from_installation(installation)


async def update_skill(request: Request) -> None:
    """Changes a skill's settings while the agent runs."""
    body = await parse(request, SkillChange)
    agent = await running_instance(request)
    await services(request).skills.change(agent, request.path_params["skill_name"], body.change)
