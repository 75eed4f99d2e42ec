"""Agents: the moves of their rows, drains, freezing, and coming back."""

from __future__ import annotations

import re
from pathlib import Path
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
from chowder_local.instances.lifecycle.agents import MOVES, Agent
from tests.scripted.engine import NOWHERE
from tests.scripted.gateway import refused
from tests.scripted.operations import start, stop
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from chowder_local.core.errors import ChowderError

PAGE = Path(__file__).parents[4] / "docs" / "explanation" / "instance-states.md"
PROVISIONING, RUNNING, STOPPED, ERROR, TERMINATED = InstanceStatus
DOWN = EngineUnavailable("The engine is on holiday.")


def test_the_table_in_the_docs_has_exactly_the_allowed_transitions() -> None:
    listed = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE.read_text(), re.M)
    assert sorted(listed) == sorted((each, to) for each in MOVES for to in MOVES[each])


async def test_a_transition_that_is_not_allowed_raises_and_changes_nothing(world: World) -> None:
    instance = await world.placed(TERMINATED)
    with pytest.raises(ValueError, match="cannot move from terminated to running"):
        await Agent(world.agents, instance).to_running(NOWHERE)
    assert await world.now(instance) == instance


async def test_a_transition_from_an_outdated_status_changes_nothing(world: World) -> None:
    agent, late = (Agent(world.agents, seen) for seen in 2 * [await world.created()])
    assert await agent.to_stopped()
    assert not await late.to_error("too late")
    assert await world.now(late.row) == agent.row


async def test_an_instance_that_was_stopped_meanwhile_neither_hibernates_nor_wakes(
    world: World,
) -> None:
    seen = await world.created()
    stopped = await world.lifecycle.stop(world.organization_id, seen.id)
    late = Agent(world.agents, seen)
    assert not await late.hibernate()
    assert not await late.mark_resumed(NOWHERE)
    assert await world.now(seen) == stopped


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
