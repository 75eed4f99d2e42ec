"""Editing a running agent's configuration: read, check, save."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.errors.agents import ConfigRefused, GatewayUnavailable
from chowder_local.instances.configuration.live_config import MAX_LOOKUPS
from chowder_local.openclaw.config.edits import SCHEMA_FILE
from tests.scripted.gateway import ok, refused

if TYPE_CHECKING:
    from tests.scripted.world import World


async def test_the_configuration_is_read_without_reserved_settings(world: World) -> None:
    instance = await world.created()
    source = {"gateway": {"port": 1}, "tools": {"a": 1}}
    world.gateway.rpc_answers["config.get"] = ok({"hash": "h", "sourceConfig": source})
    assert await world.config_editing.read(instance) == {"tools": {"a": 1}}
    world.gateway.rpc_answers["config.get"] = ok({"sourceConfig": "?"})
    assert await world.config_editing.read(instance) == {}


async def test_an_instance_without_a_gateway_address_cannot_be_read(world: World) -> None:
    instance = replace(await world.created(), gateway_url=None)
    with pytest.raises(GatewayUnavailable, match="no address"):
        await world.config_editing.read(instance)


@pytest.mark.parametrize(
    ("answers", "restarting"),
    [
        ([ok({"reloadKind": "restart"})], ("a.b",)),
        ([ok({"reloadKind": "hot"})], ()),
        ([refused("config schema path not found"), ok({"reloadKind": "restart"})], ("a.b",)),
        ([refused("config schema path not found")], ()),
        ([ok({"reloadKind": ["?"]})], ()),
    ],
)
async def test_the_preview_lists_changes_that_need_a_restart(
    world: World, answers: list[Any], restarting: tuple[str, ...]
) -> None:
    instance = await world.created()
    world.gateway.rpc_answers["config.schema.lookup"] = answers
    verdict = await world.config_editing.check(instance, {"a": {"b": 1}})
    assert (verdict.changed, verdict.restarting) == (("a.b",), restarting)
    assert world.gateway.called("config.patch") == []


async def test_the_number_of_schema_lookups_is_bounded(world: World) -> None:
    instance = await world.created()
    world.gateway.rpc_answers["config.schema.lookup"] = ok({"reloadKind": "hot"})
    verdict = await world.config_editing.check(instance, {f"a{n}": 1 for n in range(100)})
    assert len(verdict.changed) == 100
    assert len(world.gateway.called("config.schema.lookup")) == MAX_LOOKUPS


async def test_all_problems_have_their_paths(world: World) -> None:
    instance = await world.created()
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    world.engine.image_files[SCHEMA_FILE] = json.dumps(schema).encode()
    with pytest.raises(ConfigRefused) as refusal:
        await world.config_editing.check(instance, {f"a{n}": n for n in range(5)})
    assert [each.path for each in refusal.value.problems] == [f"a{n}" for n in range(5)]
    with pytest.raises(ConfigRefused) as refusal:
        await world.config_editing.check(instance, {"gateway": {"port": 5}})
    assert [each.path for each in refusal.value.problems] == ["gateway.port"]


@pytest.mark.parametrize("requires_restart", [False, True])
async def test_save_returns_whether_the_agent_has_restarted(
    world: World, requires_restart: bool
) -> None:
    instance = await world.created()
    world.gateway.requires_restart = requires_restart
    assert await world.config_editing.save(instance, {"a": {"b": 1}}) is requires_restart
    assert (await world.now(instance)).openclaw_config == {"a": {"b": 1}}
    assert await world.config_editing.save(instance, {}) is False
