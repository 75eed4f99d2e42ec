"""What becomes of the agents of a machine that is away."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import (
    AGENT_MEMORY_BYTES,
    EngineNode,
    Instance,
    InstanceStatus,
    SandboxState,
)
from chowder_local.core.errors.sandboxes import NodeUnreachable
from chowder_local.instances.snapshots.recovery import AWAY_S
from tests.scripted.homes import archive
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOTES = ".openclaw/workspace/notes.md"
FILES = {".openclaw/openclaw.json": b"{}"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, snapshot_interval_s=600.0) as world:
        world.engine.node_list = [EngineNode("host-1", True, False, 1, 8 * AGENT_MEMORY_BYTES, 3)]
        yield world


async def saved_agent(world: World) -> Instance:
    instance = await world.created()
    world.engine.put_home(instance.sandbox_id, archive(FILES | {NOTES: b"teal"}))
    await world.interval_snapshots.take_due()
    return instance


def take_away(world: World, instance: Instance) -> None:
    world.engine.put(instance.sandbox_id, SandboxState.UNREACHABLE)
    world.engine.failing[f"remove {instance.sandbox_id}"] = NodeUnreachable("host-1")


async def test_an_agent_comes_back_elsewhere_with_what_its_latest_snapshot_has(
    world: World,
) -> None:
    instance = await saved_agent(world)
    take_away(world, instance)
    await world.recovery.recover()
    world.clock.advance(AWAY_S - 1)
    await world.recovery.recover()
    assert await world.now(instance) == instance
    world.clock.advance(1)
    await world.recovery.recover()
    recovered = await world.settled(instance)
    assert recovered.status is InstanceStatus.RUNNING
    assert recovered.sandbox_id != instance.sandbox_id
    assert (world.engine.home(recovered.sandbox_id) / NOTES).read_bytes() == b"teal"
    # What the machine has of it is removed when it is back.
    world.engine.failing.clear()
    world.engine.put(instance.sandbox_id, SandboxState.PAUSED)
    await world.reconciler.reconcile()
    assert set(world.engine.containers) == {recovered.sandbox_id}


async def test_a_machine_that_is_back_in_time_keeps_its_agents(world: World) -> None:
    instance = await saved_agent(world)
    for state in (SandboxState.UNREACHABLE, SandboxState.RUNNING, SandboxState.UNREACHABLE):
        world.engine.put(instance.sandbox_id, state)
        await world.recovery.recover()
        world.clock.advance(AWAY_S - 1)
    await world.recovery.recover()
    assert (await world.now(instance)).sandbox_id == instance.sandbox_id


async def test_stopped_agents_and_those_without_a_snapshot_wait(world: World) -> None:
    saved, unsaved = await saved_agent(world), await world.created()
    saved = await world.lifecycle.stop(world.organization_id, saved.id)
    for each in (saved, unsaved):
        take_away(world, each)
    await world.recovery.recover()
    world.clock.advance(AWAY_S)
    await world.recovery.recover()
    for each in (saved, unsaved):
        assert replace(await world.now(each), updated_at=each.updated_at) == each
