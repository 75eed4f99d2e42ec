"""Samples of running agents, taken while there are viewers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceStatus, SandboxUsage
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.tasks import owned_tasks
from chowder_local.instances.monitoring.usage import Gauge, UsageSamples
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from tests.scripted.world import World


def usage(memory_bytes: int, cpu_s: float = 0.0, at_s: float = 0.0) -> SandboxUsage:
    return SandboxUsage(memory_bytes, 2_000, cpu_s, at_s)


def test_the_processor_use_of_a_replaced_sandbox_is_not_negative() -> None:
    gauge = Gauge()
    for at_s, cpu_s in ((0.0, 50.0), (2.0, 51.0), (4.0, 0.5), (4.0, 0.5)):
        gauge.read(usage(1, cpu_s, at_s))
    assert list(gauge.cpu) == [0.5, 0.0]


async def test_only_running_agents_are_sampled(world: World) -> None:
    runs = await world.placed(InstanceStatus.RUNNING, 1)
    sleeps = await world.placed(InstanceStatus.STOPPED, 2)
    unseen = await world.placed(InstanceStatus.RUNNING, 3)
    world.engine.usages = {runs.sandbox_id: usage(600), sleeps.sandbox_id: usage(700)}
    usage_samples = UsageSamples(world.engine, world.instances)
    await usage_samples.read()
    await usage_samples.read()
    gauge = usage_samples.get(runs.id)
    assert gauge is not None
    assert list(gauge.memory_bytes) == [600, 600]
    assert usage_samples.instance_ids() == [runs.id]
    assert usage_samples.get(sleeps.id) is usage_samples.get(unseen.id) is None


async def test_without_viewers_nothing_is_sampled_and_old_samples_are_dropped(
    world: World,
) -> None:
    runs = await world.placed(InstanceStatus.RUNNING, 1)
    world.engine.usages = {runs.sandbox_id: usage(600)}
    usage_samples = UsageSamples(world.engine, world.instances, interval_s=0.001)
    async with owned_tasks() as tasks:
        tasks.create_task(usage_samples.run())
        with usage_samples.watching() as first, usage_samples.watching() as second:
            await first.wait()
            await second.wait()
        await eventually(lambda: not usage_samples.is_watched, "there are no viewers")
        await eventually(lambda: not usage_samples.instance_ids(), "they are forgotten")
        count = world.engine.made("usage")
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert world.engine.made("usage") == count


@pytest.mark.parametrize("failure", [EngineUnavailable("away"), RuntimeError("a defect")])
async def test_sampling_goes_on_after_a_failure_of_the_engine(
    world: World, failure: Exception
) -> None:
    world.engine.failing["usage"] = failure
    usage_samples = UsageSamples(world.engine, world.instances, interval_s=0.001)
    async with owned_tasks() as tasks:
        tasks.create_task(usage_samples.run())
        with usage_samples.watching() as news:
            for _ in range(3):
                await news.wait()
                news.clear()
    assert world.engine.made("usage") >= 3
