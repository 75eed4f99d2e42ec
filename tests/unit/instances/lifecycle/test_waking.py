"""Resuming the sandbox of a stopped instance, or booting it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core import tasks
from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.errors.sandboxes import (
    BootFailed,
    DiskFull,
    EngineSilent,
    EngineUnavailable,
    ImageMissing,
    SandboxMissing,
)
from tests.scripted.gateway import refused
from tests.scripted.operations import start

if TYPE_CHECKING:
    from chowder_local.core.errors import ChowderError
    from tests.scripted.world import World

PROVISIONING, RUNNING, STOPPED, ERROR, TERMINATED = InstanceStatus
DOWN = EngineUnavailable("The engine is on holiday.")


async def test_a_start_resumes_the_sandbox_and_its_gateway_accepts_turns(world: World) -> None:
    instance = await world.stopped()
    started = await start(world, instance)
    assert started.status is RUNNING
    assert started.gateway_url == world.engine.address(started.sandbox_id)
    assert world.engine.state(instance.sandbox_id) is SandboxState.RUNNING
    assert not world.gateway.suspended
    assert world.engine.made("boot") == 1


@pytest.mark.parametrize("state", [SandboxState.EXITED, SandboxState.MISSING, SandboxState.CREATED])
async def test_a_stopped_sandbox_whose_container_is_gone_is_booted_from_its_volume(
    world: World, state: SandboxState
) -> None:
    instance = await world.stopped()
    world.engine.put(instance.sandbox_id, state)
    removed = world.engine.made("remove")
    assert (await start(world, instance)).status is RUNNING
    assert world.engine.made("boot") == 2
    assert world.engine.made("remove") == removed


@pytest.mark.parametrize("call", ["inspect", "unpause"])
async def test_after_a_start_that_the_engine_fails_the_instance_is_stopped_and_can_be_started_later(
    world: World, call: str
) -> None:
    instance = await world.stopped()
    world.engine.failing[call] = DOWN
    with pytest.raises(EngineUnavailable):
        await start(world, instance)
    assert await world.now(instance) == instance
    world.engine.failing.clear()
    assert (await start(world, instance)).status is RUNNING


async def test_a_start_ends_as_soon_as_the_engine_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "WATCH_INTERVAL_S", 0.0)
    instance = await world.stopped()
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    # It would be waited for until the boot's time limit.
    world.gateway.is_started = False
    world.engine.failing["version"] = EngineSilent("The engine is away.")
    with pytest.raises(EngineSilent, match="is away"):
        await start(world, instance)
    assert (await world.now(instance)).status is STOPPED


@pytest.mark.parametrize("failure", [DOWN, ImageMissing("chowder-local/sandbox:1")])
async def test_after_a_start_whose_sandbox_cannot_be_created_the_instance_is_stopped(
    world: World, failure: ChowderError
) -> None:
    instance = await world.stopped()
    world.engine.put(instance.sandbox_id, SandboxState.MISSING)
    world.engine.failing["boot"] = failure
    with pytest.raises(type(failure)):
        await start(world, instance)
    assert (await world.now(instance)).status is STOPPED


async def test_a_start_whose_boot_fails_leaves_an_error_with_its_message(world: World) -> None:
    instance = await world.stopped()
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    world.engine.booted = world.engine.containers[instance.sandbox_id]
    world.engine.log = "Gateway failed to start"
    with pytest.raises(BootFailed):
        await start(world, instance)
    failed = await world.now(instance)
    assert failed.status is ERROR
    assert failed.error_message is not None
    assert "Gateway failed to start" in failed.error_message


async def test_after_a_start_on_a_full_disk_the_instance_is_stopped(world: World) -> None:
    instance = await world.stopped()
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    world.engine.booted = world.engine.containers[instance.sandbox_id]
    world.engine.log = "write failed: no space left on device"
    with pytest.raises(DiskFull, match="docker system df"):
        await start(world, instance)
    assert (await world.now(instance)).status is STOPPED


async def test_a_start_without_a_volume_leaves_an_error_and_boots_no_empty_agent(
    world: World,
) -> None:
    instance = await world.stopped()
    await world.engine.remove(instance.sandbox_id)
    with pytest.raises(SandboxMissing):
        await start(world, instance)
    assert (await world.now(instance)).status is ERROR
    assert world.engine.made("boot") == 1


async def test_a_gateway_that_cannot_be_resumed_is_booted_again(world: World) -> None:
    instance = await world.stopped()
    world.gateway.rpc_answers["gateway.suspend.resume"] = refused("broken")
    provisioner = world.engine.made("boot")
    started = await start(world, instance)
    assert started.status is RUNNING
    assert world.engine.made("boot") == provisioner + 1
