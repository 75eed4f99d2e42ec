"""Renaming instances and changing their configuration."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.errors.agents import ConfigRefused, GatewayUnavailable
from chowder_local.core.errors.requests import InstanceStateWrong
from tests.scripted.gateway import refused
from tests.scripted.operations import change
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from tests.scripted.world import World

PROVISIONING, RUNNING, STOPPED, ERROR, TERMINATED = InstanceStatus


async def test_a_rename_does_not_call_the_gateway(world: World) -> None:
    instance = await world.created()
    world.clock.advance(5)
    changed = await change(world, instance, name="Bea")
    assert (changed.name, changed.status) == ("Bea", RUNNING)
    assert changed.updated_at == world.clock.now
    assert world.gateway.rpc_calls == []


@pytest.mark.parametrize("status", [PROVISIONING, STOPPED, ERROR])
async def test_an_instance_can_be_renamed_in_any_state(
    world: World, status: InstanceStatus
) -> None:
    instance = await world.placed(status)
    assert (await change(world, instance, name="Bea")).name == "Bea"


async def test_a_reserved_setting_is_refused_before_the_gateway_is_called(world: World) -> None:
    instance = await world.created()
    with pytest.raises(ConfigRefused, match="belongs to chowder-local"):
        await change(world, instance, overrides={"gateway.port": 1})
    assert world.gateway.rpc_calls == []


async def test_a_configuration_that_changes_meanwhile_is_read_again_a_few_times(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.rpc_answers["config.patch"] = refused("config changed since last load; re-run")
    with pytest.raises(GatewayUnavailable, match="changes faster"):
        await change(world, instance, overrides={"a": 1})
    assert len(world.gateway.called("config.get")) == 5
    assert await world.now(instance) == instance


def probed_since(world: World, count: int) -> bool:
    return world.gateway.probes > count + 1


async def test_a_change_that_restarts_the_agent_returns_once_it_accepts_turns_again(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.requires_restart = True
    world.gateway.uptime_ms = 3_600_000
    async with asyncio.TaskGroup() as group:
        changing = group.create_task(change(world, instance, overrides={"a": 1}))
        await eventually(lambda: world.gateway.called("config.patch"), "the agent was asked")
        # It does not take turns for a moment before the restart, and then again during it.
        for is_started in (False, True, False):
            world.gateway.is_started = is_started
            probes = world.gateway.probes
            await eventually(partial(probed_since, world, probes), "it was seen")
            assert not changing.done()
        world.gateway.uptime_ms = 0
        world.gateway.is_started = True
    assert changing.result().openclaw_config == {"a": 1}


async def test_a_stopped_agent_is_resumed_for_a_change_and_paused_again(world: World) -> None:
    instance = await world.stopped()
    changed = await change(world, instance, overrides={"a": 1})
    assert (changed.status, changed.openclaw_config) == (STOPPED, {"a": 1})
    assert world.engine.state(instance.sandbox_id) is SandboxState.PAUSED
    assert len(world.gateway.called("config.patch")) == 1


@pytest.mark.parametrize("status", [PROVISIONING, ERROR])
async def test_only_a_running_or_stopped_agent_can_be_reconfigured(
    world: World, status: InstanceStatus
) -> None:
    instance = await world.placed(status)
    with pytest.raises(InstanceStateWrong, match="must be running or stopped"):
        await change(world, instance, overrides={"a": 1})
    assert await world.now(instance) == instance
