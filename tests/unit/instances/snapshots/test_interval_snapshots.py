"""Snapshots at intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import INTERVAL_SNAPSHOT_NAME, Instance, SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable, NodeUnreachable
from chowder_local.instances.lifecycle.agents import Agent
from tests.scripted.homes import archive
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

INTERVAL_S = 600.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, snapshot_interval_s=INTERVAL_S) as world:
        yield world


async def agent(world: World) -> Instance:
    instance = await world.created()
    world.engine.put_home(instance.sandbox_id, archive({".openclaw/openclaw.json": b"{}"}))
    return instance


async def taken(world: World, instance: Instance) -> list[str]:
    await world.interval_snapshots.take_due()
    return [each.id for each in await world.snapshots.of_instance(instance.id)]


async def test_each_snapshot_replaces_the_former_and_no_other(world: World) -> None:
    instance = await agent(world)
    kept = await world.snapshots.take(instance, "mine")
    world.clock.advance(1)
    own, first = await taken(world, instance)
    assert own == kept.id
    found = await world.snapshots.get(world.organization_id, first)
    assert found.name == INTERVAL_SNAPSHOT_NAME
    world.clock.advance(INTERVAL_S - 1)
    assert await taken(world, instance) == [kept.id, first]
    world.clock.advance(1)
    own, second = await taken(world, instance)
    assert own == kept.id
    assert second != first


async def test_one_that_is_in_use_has_its_turn_later(world: World) -> None:
    instance = await agent(world)
    (first,) = await taken(world, instance)
    with world.residency.counting(instance.id):
        world.clock.advance(INTERVAL_S)
        assert await taken(world, instance) == [first]
        world.clock.advance(INTERVAL_S)
        assert await taken(world, instance) != [first]


async def test_one_whose_machine_is_away_is_not_drained(world: World) -> None:
    instance = await agent(world)
    world.engine.failing[f"inspect {instance.sandbox_id}"] = NodeUnreachable("host-1")
    assert await taken(world, instance) == []
    assert world.gateway.called("gateway.suspend.prepare") == []


async def test_one_that_its_machine_has_frozen_goes_on_after_the_copy(world: World) -> None:
    instance = await agent(world)
    await world.engine.pause(instance.sandbox_id)
    assert len(await taken(world, instance)) == 1
    assert world.engine.state(instance.sandbox_id) is SandboxState.RUNNING
    assert not world.gateway.suspended


async def test_one_that_has_left_memory_is_copied_once(world: World) -> None:
    instance = await agent(world)
    world.clock.advance(1)
    assert await Agent(world.agents, instance).hibernate()
    (first,) = await taken(world, instance)
    world.clock.advance(2 * INTERVAL_S)
    assert await taken(world, instance) == [first]


async def test_a_failure_with_one_does_not_affect_others(world: World) -> None:
    broken, sound = await agent(world), await agent(world)
    world.engine.failing[f"read_home {broken.sandbox_id}"] = EngineUnavailable("No.")
    assert await taken(world, broken) == []
    assert len(await world.snapshots.of_instance(sound.id)) == 1
