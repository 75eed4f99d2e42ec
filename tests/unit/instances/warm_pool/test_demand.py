"""The number of warm sandboxes, which follows what was wanted at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chowder_local.instances.warm_pool.sandboxes import Demand
from tests.scripted.programs import done
from tests.scripted.world import Clock, World, open_world

if TYPE_CHECKING:
    from pathlib import Path


def test_the_peak_is_the_largest_number_that_was_wanted_within_half_a_minute() -> None:
    clock = Clock()
    demand = Demand(clock)
    assert demand.peak() == 0
    for pause_s in (0, 10, 20, 30, 0, 29):
        clock.advance(pause_s)
        demand.add()
    # At 0, 10, 30, 60, 60 and 89 seconds.
    assert demand.peak() == 3
    clock.advance(3600 - 60)
    assert demand.peak() == 3
    clock.advance(32)
    assert demand.peak() == 1
    clock.advance(3600)
    assert demand.peak() == 0


async def test_the_pool_grows_after_a_burst_and_shrinks_when_it_is_forgotten(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path, warm_pool_size=1, warm_pool_max=3) as world:
        world.programs.answers["sessions.delete"] = done()
        assert await adjusted(world) == 1
        await world.created()
        assert await adjusted(world) == 1
        for _ in range(4):
            await world.created()
        assert await adjusted(world) == 3
        assert (await world.health.report())["pool"]["size"] == 3
        # Another process on the same data directory.
        later = replace(world)
        assert await adjusted(later) == 3
        world.clock.advance(3601)
        assert await adjusted(world) == 1


async def test_a_busy_processor_makes_no_more_than_the_usual_number(tmp_path: Path) -> None:
    async with open_world(tmp_path, warm_pool_size=1, warm_pool_max=3) as world:
        world.programs.answers["sessions.delete"] = done()
        busy = replace(world, is_idle=is_busy)
        for _ in range(3):
            busy.demand.add()
        assert await adjusted(busy) == 1


async def test_without_a_pool_there_is_none_for_bursts(tmp_path: Path) -> None:
    async with open_world(tmp_path, warm_pool_size=0, warm_pool_max=3) as world:
        world.demand.add(3)
        assert await adjusted(world) == 0


async def is_busy() -> bool:
    return False


async def adjusted(world: World) -> int:
    """The number of warm sandboxes, once the pool makes and discards no more."""
    while await world.pool.adjust():
        pass
    return len(await world.warm_queries.all())
