"""Freezing the sandbox of an instance that is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable
from tests.scripted.gateway import refused
from tests.scripted.operations import stop

if TYPE_CHECKING:
    from tests.scripted.world import World

PROVISIONING, RUNNING, STOPPED, ERROR, TERMINATED = InstanceStatus
DOWN = EngineUnavailable("The engine is on holiday.")


async def test_a_stop_drains_the_running_turn_and_pauses_the_sandbox(world: World) -> None:
    instance = await world.created()
    world.gateway.busy_rounds = 2
    stopped = await stop(world, instance)
    assert stopped.status is STOPPED
    assert world.engine.state(instance.sandbox_id) is SandboxState.PAUSED
    assert world.gateway.called("gateway.suspend.prepare") == [
        {"requestId": instance.sandbox_id, "drain": True}
    ]
    assert len(world.gateway.called("gateway.suspend.status")) == 2


async def test_a_stop_of_a_dead_sandbox_succeeds_without_a_pause(world: World) -> None:
    instance = await world.created()
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    assert (await stop(world, instance)).status is STOPPED
    assert world.engine.made("pause") == 0


@pytest.mark.parametrize("call", ["inspect", "pause"])
async def test_after_a_stop_that_the_engine_fails_the_instance_runs_and_accepts_turns(
    world: World, call: str
) -> None:
    instance = await world.created()
    world.engine.failing[call] = DOWN
    with pytest.raises(EngineUnavailable):
        await stop(world, instance)
    assert await world.now(instance) == instance
    assert not world.gateway.suspended
    world.engine.failing.clear()
    assert (await stop(world, instance)).status is STOPPED


async def test_a_failed_stop_raises_its_own_error_even_if_the_resume_fails_too(
    world: World,
) -> None:
    instance = await world.created()
    world.engine.failing["pause"] = DOWN
    world.gateway.rpc_answers["gateway.suspend.resume"] = refused("no")
    with pytest.raises(EngineUnavailable):
        await stop(world, instance)
    assert (await world.now(instance)).status is RUNNING
