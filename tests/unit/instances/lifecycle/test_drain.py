"""Draining agents before a stop, and ending drains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.domain import InstanceStatus, SandboxState
from tests.scripted.gateway import refused
from tests.scripted.operations import start, stop
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from pathlib import Path

PROVISIONING, RUNNING, STOPPED, ERROR, TERMINATED = InstanceStatus


async def test_a_turn_that_does_not_end_is_frozen_after_the_timeout(tmp_path: Path) -> None:
    async with open_world(tmp_path, drain_timeout_s=0.05) as world:
        instance = await world.created()
        world.gateway.busy_rounds = 1_000_000
        assert (await stop(world, instance)).status is STOPPED
        assert world.engine.state(instance.sandbox_id) is SandboxState.PAUSED


async def test_a_gateway_that_refuses_to_be_suspended_is_stopped_without_a_drain(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.rpc_answers["gateway.suspend.prepare"] = refused("no", 503)
    assert (await stop(world, instance)).status is STOPPED


async def test_a_start_ends_the_drain_without_beginning_another(world: World) -> None:
    instance = await world.stopped()
    await start(world, instance)
    assert len(world.gateway.called("gateway.suspend.prepare")) == 1
    assert len(world.gateway.called("gateway.suspend.resume")) == 1


async def test_a_start_ends_a_drain_of_an_earlier_server_process(world: World) -> None:
    instance = await world.placed(STOPPED)
    world.engine.put(instance.sandbox_id, SandboxState.PAUSED)
    world.gateway.suspended.add(world.engine.address(instance.sandbox_id))
    assert (await start(world, instance)).status is RUNNING
    assert not world.gateway.suspended
    assert world.engine.made("boot") == 0


async def test_the_rate_limit_for_suspensions_causes_no_boot(world: World) -> None:
    instance = await world.created()
    limited = refused("rate limit exceeded for gateway.suspend.prepare; retry after 59s", 503)
    world.gateway.rpc_answers["gateway.suspend.prepare"] = limited
    await stop(world, instance)
    assert (await start(world, instance)).status is RUNNING
    assert world.engine.made("boot") == 1
