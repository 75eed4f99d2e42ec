"""The disk quota of instances."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceStatus, SandboxId, SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.instances.lifecycle.agents import Agent
from chowder_local.instances.monitoring.usage import MB, DiskWatch
from tests.scripted.engine import Hold
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from tests.scripted.world import World

LIMIT_MB = 300


@pytest.fixture
def watch(world: World, monkeypatch: pytest.MonkeyPatch) -> DiskWatch:
    monkeypatch.setattr("chowder_local.instances.monitoring.usage.DISK_INTERVAL_S", 0.001)
    return DiskWatch(world.agents, LIMIT_MB)


async def test_an_instance_over_its_quota_is_ended_with_an_error(
    world: World, watch: DiskWatch
) -> None:
    hog, fits = await world.created(), await world.created()
    world.engine.disk = {hog.sandbox_id: LIMIT_MB * MB + 1, fits.sandbox_id: LIMIT_MB * MB}
    await watch.check()
    ended = await world.now(hog)
    assert (ended.status, ended.gateway_url) == (InstanceStatus.ERROR, None)
    assert "more than the 300 MB of disk" in str(ended.error_message)
    assert world.engine.state(hog.sandbox_id) is SandboxState.EXITED
    assert await world.now(fits) == fits
    # The reconciler does not boot it again.
    await world.reconciler.reconcile()
    assert world.engine.state(hog.sandbox_id) is SandboxState.EXITED


async def test_a_stopped_instance_is_not_measured(world: World, watch: DiskWatch) -> None:
    await world.stopped()
    await watch.check()
    assert world.engine.made("disk_bytes") == 0


async def test_an_instance_that_was_stopped_meanwhile_is_not_ended(
    world: World, watch: DiskWatch
) -> None:
    hog = await world.created()
    world.engine.disk = {hog.sandbox_id: LIMIT_MB * MB + 1}
    async with asyncio.TaskGroup() as group, world.agents.holding(hog):
        group.create_task(watch.check())
        await eventually(lambda: world.engine.made("disk_bytes"), "its disk use was measured")
        await world.instances.change(hog.id, now=world.clock(), status=InstanceStatus.STOPPED)
    assert (await world.now(hog)).status is InstanceStatus.STOPPED


async def test_an_instance_that_moved_meanwhile_is_not_ended_for_its_former_sandbox(
    world: World, watch: DiskWatch
) -> None:
    hog = await world.created()
    world.engine.disk = {hog.sandbox_id: LIMIT_MB * MB + 1}
    async with asyncio.TaskGroup() as group, world.agents.holding(hog):
        group.create_task(watch.check())
        await eventually(lambda: world.engine.made("disk_bytes"), "its disk use was measured")
        await Agent(world.agents, hog).move_sandbox(SandboxId("chowder-another"))
    assert (await world.now(hog)).status is InstanceStatus.RUNNING


async def test_a_sandbox_that_was_replaced_before_its_turn_is_not_measured(
    world: World, watch: DiskWatch
) -> None:
    made = [await world.created(), await world.created()]
    snapshots = {each.id: await world.snapshots.take(each) for each in made}
    hold = world.engine.holds["disk_bytes"] = Hold()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.check())
        await hold.has_begun.wait()
        (first,) = measured(world)
        (second,) = (each for each in made if each.sandbox_id != first)
        await world.restores.restore(world.organization_id, second, snapshots[second.id].id)
        restored = await world.settled(second)
        hold.may_end.set()
    assert measured(world) == [first, restored.sandbox_id]


def measured(world: World) -> list[str]:
    return [of for name, of in world.engine.calls if name == "disk_bytes"]


@pytest.mark.parametrize("problem", [EngineUnavailable("No."), RuntimeError("a defect")])
async def test_a_failure_with_one_instance_does_not_affect_others(
    world: World, watch: DiskWatch, problem: Exception
) -> None:
    broken, hog = await world.created(), await world.created()
    world.engine.failing[f"disk_bytes {broken.sandbox_id}"] = problem
    world.engine.disk = {hog.sandbox_id: LIMIT_MB * MB + 1}
    await watch.check()
    assert (await world.now(hog)).status is InstanceStatus.ERROR
    assert (await world.now(broken)).status is InstanceStatus.RUNNING


@pytest.mark.parametrize("problem", [EngineUnavailable("No."), RuntimeError("a defect")])
async def test_the_loop_survives_failures(
    world: World, watch: DiskWatch, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    rounds = 0

    async def check() -> None:
        nonlocal rounds
        rounds += 1
        raise problem

    monkeypatch.setattr(watch, "check", check)
    running = world.tasks.create_task(watch.run())
    await eventually(lambda: rounds > 2, "it goes on")
    running.cancel()
