"""The plugins that warm sandboxes have loaded in advance."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.errors.agents import ConfigRefused, GatewayUnavailable
from chowder_local.messengers.service import NOBODY
from chowder_local.openclaw.channel_preload import ChannelPreload
from chowder_local.openclaw.gateway import Gateway, open_gateways
from tests.scripted.gateway import ScriptedGateway, ok, refused
from tests.scripted.serving import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.scripted.world import World

FAILED = {"accountId": "default", "running": False, "lastError": "Not Found"}
STATUS = ok({"channelAccounts": {"line": [FAILED], "telegram": [FAILED]}})


@asynccontextmanager
async def preloading(gateway: ScriptedGateway, **fields: Any) -> AsyncIterator[Any]:
    async def given() -> dict[str, Any]:
        return fields

    preload = ChannelPreload(given)
    async with serve(gateway) as url, open_gateways() as forwarder:
        yield lambda: preload.load(Gateway(forwarder, url, "token"))


def patches(gateway: ScriptedGateway) -> list[dict[str, Any]]:
    return [json.loads(each["raw"]) for each in gateway.called("config.patch")]


async def test_channels_are_connected_and_then_removed_with_what_openclaw_adds_for_them() -> None:
    gateway = ScriptedGateway(rpc_answers={"channels.status": STATUS})
    fields = {"telegram": {"token": "1:a", "group_policy": "open"}, "line": {}, "whatsapp": {}}
    async with preloading(gateway, **fields) as load:
        await load()
    telegram = {"botToken": "1:a", "groupPolicy": "open", "enabled": True}
    none = {"telegram": None, "line": None}
    assert patches(gateway) == [
        {"channels": {"telegram": telegram, "line": {"enabled": True}}},
        {"channels": none, "plugins": {"entries": none}},
    ]


async def test_without_channels_nothing_is_changed() -> None:
    gateway = ScriptedGateway()
    async with preloading(gateway) as load:
        await load()
    assert gateway.rpc_calls == []


async def test_a_sandbox_that_keeps_a_channel_is_not_used() -> None:
    kept = ok({"hash": "1", "sourceConfig": {"channels": {"line": {"enabled": True}}}})
    gateway = ScriptedGateway(rpc_answers={"channels.status": STATUS, "config.get": kept})
    async with preloading(gateway, line={}) as load:
        with pytest.raises(GatewayUnavailable, match="keeps a channel"):
            await load()


async def test_after_a_failure_warm_sandboxes_are_made_without_it() -> None:
    gateway = ScriptedGateway(rpc_answers={"config.patch": refused("unknown channel")})
    async with preloading(gateway, line={}) as load:
        with pytest.raises(ConfigRefused, match="unknown channel"):
            await load()
        await load()
    assert len(patches(gateway)) == 1


async def test_the_channels_that_agents_used_last_are_those_of_nobody(world: World) -> None:
    ada, bob = await world.created(), await world.created()
    for agent, channel in ((ada, "slack"), (ada, "line"), (bob, "nostr"), (ada, "matrix")):
        mailbox = await world.messengers.mailbox(agent, channel)
        await mailbox.add("person", person="Ada", text="Hello")
    fields = await world.messengers.fields_of_nobody()
    assert list(fields) == ["matrix", "nostr", "line"]
    assert fields["matrix"]["homeserver"].endswith(f"/messengers/matrix/{NOBODY}")
    secret = world.messengers.fields(ada, "matrix")["access_token"]
    assert fields["matrix"]["access_token"] != secret
