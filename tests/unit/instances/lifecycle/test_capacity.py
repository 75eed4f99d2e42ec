"""The limit of sandboxes in memory, and the eviction of those that are not needed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from chowder_local.core.domain import (
    AGENT_MEMORY_BYTES,
    EngineMemory,
    EngineNode,
    InstanceStatus,
    SandboxId,
    SandboxInfo,
    SandboxState,
)
from chowder_local.core.errors.sandboxes import EngineUnavailable, HostFull
from tests.scripted.engine import Hold
from tests.scripted.programs import done
from tests.scripted.serving import eventually
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

RUNNING, STOPPED, ERROR = InstanceStatus.RUNNING, InstanceStatus.STOPPED, InstanceStatus.ERROR


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, max_sandboxes=2, boot_concurrency=1) as world:
        yield world


async def test_a_boot_without_room_fails_with_a_message(world: World) -> None:
    awake = [await world.created(), await world.created()]
    third = await world.created()
    assert third.status is ERROR
    assert third.error_message is not None
    assert "memory for 2 agents at a time" in third.error_message
    assert "CHOWDER_MAX_SANDBOXES" in third.error_message
    assert [(await world.now(each)).status for each in awake] == [RUNNING, RUNNING]


async def test_of_creates_that_race_only_as_many_succeed_as_there_is_room_for(world: World) -> None:
    drafts = [world.creation.create(world.organization_id, name="Ada") for _ in range(6)]
    made = await asyncio.gather(*drafts)
    statuses = [(await world.settled(each)).status for each in made]
    assert (statuses.count(RUNNING), statuses.count(ERROR)) == (2, 4)


async def test_a_boot_that_waits_for_its_turn_has_its_place(world: World) -> None:
    hold = world.engine.holds["boot"] = Hold()
    *earlier, last = [
        await world.creation.create(world.organization_id, name="Ada") for _ in range(3)
    ]
    assert (await world.settled(last)).status is ERROR
    hold.may_end.set()
    assert [(await world.settled(each)).status for each in earlier] == [RUNNING, RUNNING]


async def test_the_instance_that_was_stopped_longest_ago_is_evicted(world: World) -> None:
    first = await world.stopped()
    world.clock.advance(1)
    second = await world.stopped()
    assert (await world.created()).status is RUNNING
    assert world.engine.state(first.sandbox_id) is SandboxState.EXITED
    assert world.engine.state(second.sandbox_id) is SandboxState.PAUSED
    assert first.sandbox_id in world.engine.volume_ids


async def test_no_more_are_evicted_if_the_engine_lists_one_that_has_ended_as_frozen(
    world: World,
) -> None:
    first, second = await world.stopped(), await world.stopped()
    listed = dict(world.engine.containers)

    async def late() -> dict[SandboxId, SandboxInfo]:
        return world.engine.containers | listed

    with patch.object(world.engine, "sandboxes", late):
        assert (await world.created()).status is RUNNING
    states = {world.engine.state(each.sandbox_id) for each in (first, second)}
    assert states == {SandboxState.EXITED, SandboxState.PAUSED}


async def test_if_one_eviction_fails_the_next_instance_is_evicted(world: World) -> None:
    first = await world.stopped()
    world.clock.advance(1)
    second = await world.stopped()
    world.engine.failing[f"release {first.sandbox_id}"] = EngineUnavailable("No.")
    assert (await world.created()).status is RUNNING
    assert world.engine.state(second.sandbox_id) is SandboxState.EXITED


async def test_an_evicted_instance_is_booted_by_its_start(world: World) -> None:
    first = await world.stopped()
    await world.created()
    other = await world.created()
    assert world.engine.state(first.sandbox_id) is SandboxState.EXITED
    await world.lifecycle.stop(world.organization_id, other.id)
    started = await world.lifecycle.start(world.organization_id, first.id)
    assert started.status is RUNNING
    assert world.engine.state(first.sandbox_id) is SandboxState.RUNNING
    assert world.engine.state(other.sandbox_id) is SandboxState.EXITED


async def test_an_agent_of_a_full_machine_takes_the_place_of_another_one_there(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path, max_sandboxes=8) as world:
        elsewhere, beside, released = [await world.stopped() for _ in range(3)]
        world.engine.node_names[elsewhere.sandbox_id] = "host-2"
        world.engine.node_list = [
            EngineNode(name, True, False, 2, AGENT_MEMORY_BYTES, None)
            for name in ("host-1", "host-2")
        ]
        world.engine.put(released.sandbox_id, SandboxState.EXITED)
        started = await world.lifecycle.start(world.organization_id, released.id)
        assert started.status is RUNNING
        assert world.engine.state(beside.sandbox_id) is SandboxState.EXITED
        assert world.engine.state(elsewhere.sandbox_id) is SandboxState.PAUSED


async def test_a_start_without_room_changes_nothing(world: World) -> None:
    first = await world.stopped()
    await world.created()
    await world.created()
    with pytest.raises(HostFull):
        await world.lifecycle.start(world.organization_id, first.id)
    assert (await world.now(first)).status is STOPPED


async def test_a_warm_sandbox_is_evicted_for_an_instance(tmp_path: Path) -> None:
    async with open_world(tmp_path, max_sandboxes=8, warm_pool_size=2) as world:
        world.programs.answers["sessions.delete"] = done()
        while await world.pool.adjust():
            pass
        world.engine.fingerprint = "another"
        made = [await world.created() for _ in range(8)]
        assert {each.status for each in made} == {RUNNING}
        assert await world.warm_queries.all() == []


async def test_a_boot_after_a_death_is_retried_until_there_is_room(world: World) -> None:
    died = await world.created()
    world.engine.put(died.sandbox_id, SandboxState.EXITED)
    strangers = [await world.placed(RUNNING, number) for number in (8, 9)]
    for each in strangers:
        world.engine.put(each.sandbox_id, SandboxState.RUNNING)
    await world.reconciler.reconcile()
    waiting = await world.settled(died)
    assert waiting.status is InstanceStatus.PROVISIONING
    assert "memory for 2 agents" in (waiting.error_message or "")
    await world.lifecycle.delete(world.organization_id, strangers[0].id)
    await world.reconciler.reconcile()
    assert (await world.settled(died)).status is RUNNING


async def test_the_limit_follows_from_the_memory_of_the_engine(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.engine.memory_reading = EngineMemory(3 * AGENT_MEMORY_BYTES + 1)
        assert await world.capacity.limit() == 3
        world.engine.memory_reading = EngineMemory(AGENT_MEMORY_BYTES // 2)
        assert await world.capacity.limit() == 1


async def test_a_queued_instance_has_a_position(world: World) -> None:
    hold = world.engine.holds["boot"] = Hold()
    made = [await world.creation.create(world.organization_id, name="Ada") for _ in range(2)]
    await hold.has_begun.wait()
    await eventually(lambda: world.boot_queue.length == 1, "the other waits")
    assert [world.boot_queue.position(each.id) for each in made] == [None, 1]
    report = (await world.health.report())["boots"]
    assert report == {"in_progress": 2, "queued": 1}
    hold.may_end.set()
    for each in made:
        assert (await world.settled(each)).status is RUNNING
        assert world.boot_queue.position(each.id) is None


async def test_a_stopped_instance_is_evicted_after_the_ttl(tmp_path: Path) -> None:
    async with open_world(tmp_path, release_stopped_after_s=60) as world:
        instance = await world.stopped()
        world.clock.advance(59)
        await world.reconciler.reconcile()
        assert world.engine.state(instance.sandbox_id) is SandboxState.PAUSED
        world.clock.advance(1)
        await world.reconciler.reconcile()
        assert world.engine.state(instance.sandbox_id) is SandboxState.EXITED
        assert (await world.now(instance)).status is STOPPED
        assert (await world.lifecycle.start(world.organization_id, instance.id)).status is RUNNING


async def test_an_instance_whose_lock_is_held_is_not_evicted(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        instance = await world.stopped()
        async with world.agents.holding(instance):
            assert not await world.agents.evict(instance)
        started = await world.lifecycle.start(world.organization_id, instance.id)
        assert not await world.agents.evict(instance)
        assert world.engine.state(started.sandbox_id) is SandboxState.RUNNING


async def test_a_failed_eviction_does_not_fail_the_round(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path, release_stopped_after_s=1) as world:
        instance = await world.stopped()
        world.clock.advance(2)
        world.engine.failing["release"] = EngineUnavailable("The engine is on holiday.")
        world.engine.put(SandboxId("chowder-strange"), SandboxState.EXITED)
        await world.reconciler.reconcile()
        assert "chowder-strange" not in world.engine.containers
        assert (await world.now(instance)).status is STOPPED
