"""Bringing instances back from their volumes in warm sandboxes."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from chowder_local.core.domain import Egress, Instance, InstanceStatus, SandboxState
from chowder_local.core.events import EventType
from chowder_local.instances.lifecycle.agents import Agent
from chowder_local.instances.warm_pool import rehydration
from chowder_local.openclaw.home.state_transfer import StateTransfer
from tests.scripted.agents import agent_at, first_column
from tests.scripted.engine import Hold
from tests.scripted.homes import of_folder
from tests.scripted.operations import change, delete, start
from tests.scripted.programs import done
from tests.scripted.serving import eventually
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chowder_local.core.domain import SandboxId

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the program runs in sandboxes only"
)
RUNNING, STOPPED = InstanceStatus.RUNNING, InstanceStatus.STOPPED


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world with one warm sandbox and a stopped instance that has left memory."""
    async with open_world(tmp_path, warm_pool_size=1) as world:
        world.programs.answers["sessions.delete"] = done()
        await released(world, agent_at(tmp_path / "original", "teal"))
        world.engine.furnish = lambda home: agent_at(home, "warm-up")
        await fill(world)
        yield world


@pytest.fixture
async def instance(world: World) -> Instance:
    (instance,) = [
        each
        async for page in world.instances.of_organization(world.organization_id)
        for each in page
    ]
    return instance


async def released(world: World, state: Path) -> None:
    instance = await world.stopped()
    give_home(world, instance, state)
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)


def give_home(world: World, instance: Instance, state: Path) -> None:
    world.engine.put_home(instance.sandbox_id, of_folder(state.parent))


async def fill(world: World) -> None:
    while await world.pool.adjust():
        pass


def transcript(world: World, instance: Instance) -> list[str]:
    """What the agent remembers."""
    return first_column(world.state_of(instance))


async def test_a_released_instance_starts_in_a_warm_sandbox_without_a_boot(
    world: World, instance: Instance
) -> None:
    booted, (warm,) = world.engine.made("boot"), await world.warm_queries.all()
    started = await start(world, instance)
    assert (started.status, started.sandbox_id) == (RUNNING, warm.sandbox_id)
    assert world.engine.made("boot") == booted
    assert transcript(world, started) == ["teal"]
    assert world.engine.volume_ids == {warm.sandbox_id}
    assert await world.snapshot_queries.ids() == set()
    assert world.snapshots.archives.ids() == set()


async def test_a_released_instance_is_configured_in_the_warm_sandbox_that_gets_its_home(
    world: World, instance: Instance
) -> None:
    (warm,) = await world.warm_queries.all()
    changed = await change(world, instance, overrides={"hooks.enabled": True})
    assert (changed.status, changed.sandbox_id) == (STOPPED, warm.sandbox_id)
    assert world.engine.state(warm.sandbox_id) is SandboxState.PAUSED
    started = await start(world, changed)
    assert (started.status, started.sandbox_id) == (RUNNING, warm.sandbox_id)
    assert transcript(world, started) == ["teal"]


async def test_who_finds_none_ready_gets_the_one_that_boots(
    world: World, instance: Instance
) -> None:
    (ready,) = await world.warm_queries.all()
    await world.warm_sandboxes.discard(ready)
    world.engine.holds["boot"] = hold = Hold()
    filling = asyncio.create_task(world.pool.adjust())
    await hold.has_begun.wait()
    (booting,) = await world.warm_queries.all()
    starting = asyncio.create_task(start(world, instance))
    claimed = EventType.WARM_SANDBOX_CLAIMED
    await eventually(lambda: claimed in {each.type for each in world.events.after(0)}, "a claim")
    hold.may_end.set()
    started = await starting
    await filling
    assert started.sandbox_id == booting.sandbox_id
    assert world.engine.calls.count(("boot", booting.sandbox_id)) == 1
    assert transcript(world, started) == ["teal"]


async def test_the_former_volume_stays_until_the_home_is_on_the_disk(
    world: World, instance: Instance
) -> None:
    sync = StateTransfer.sync
    volumes: list[set[SandboxId]] = []

    async def observed(transfer: StateTransfer) -> None:
        await sync(transfer)
        volumes.append(set(world.engine.volume_ids))

    with patch.object(StateTransfer, "sync", observed):
        started = await start(world, instance)
    assert volumes == [{instance.sandbox_id, started.sandbox_id}]
    assert world.engine.volume_ids == {started.sandbox_id}


async def test_an_instance_that_has_died_comes_back_in_a_warm_sandbox(
    world: World, instance: Instance
) -> None:
    booted = world.engine.made("boot")
    await world.instances.change(instance.id, now=world.clock.now, status=RUNNING)
    await world.reconciler.reconcile()
    healed = await world.settled(instance)
    assert healed.status is RUNNING
    assert healed.sandbox_id != instance.sandbox_id
    assert world.engine.made("boot") == booted
    assert transcript(world, healed) == ["teal"]


async def test_the_reconciler_keeps_the_sandbox_that_a_home_is_moving_into(
    world: World, instance: Instance
) -> None:
    hold = world.engine.holds["unpause"] = Hold()
    starting = asyncio.create_task(start(world, instance))
    await hold.has_begun.wait()
    await world.reconciler.reconcile()
    hold.may_end.set()
    started = await starting
    assert started.sandbox_id != instance.sandbox_id
    assert world.engine.volume_ids == {started.sandbox_id}


async def test_conversations_that_are_read_during_a_move_are_read_where_they_are_after_it(
    world: World, instance: Instance
) -> None:
    world.programs.answers["list"] = done(sessions=[])
    hold = world.engine.holds["unpause"] = Hold()
    async with asyncio.TaskGroup() as group:
        group.create_task(start(world, instance))
        await hold.has_begun.wait()
        reading = group.create_task(world.conversation_reader.sessions(instance))
        hold.may_end.set()
    assert [each.is_main for each in reading.result()] == [True]


async def test_an_instance_that_is_deleted_during_a_move_leaves_no_sandbox(
    world: World, instance: Instance
) -> None:
    hold = world.engine.holds["unpause"] = Hold()
    async with asyncio.TaskGroup() as group:
        group.create_task(start(world, instance))
        await hold.has_begun.wait()
        deleting = group.create_task(delete(world, instance))
        hold.may_end.set()
        await deleting
    assert world.engine.volume_ids == set()


async def test_a_home_that_needs_a_start_is_booted_and_not_moved_again(
    world: World, tmp_path: Path, instance: Instance
) -> None:
    state = agent_at(tmp_path / "other", "rose")
    (state / "npm" / "package").mkdir(parents=True)
    (state / "npm" / "package" / "index.js").touch()
    give_home(world, instance, state)
    booted = world.engine.made("boot")
    started = await start(world, instance)
    assert (started.status, started.sandbox_id) == (RUNNING, instance.sandbox_id)
    assert world.engine.made("boot") == booted + 1
    assert instance.sandbox_id in world.engine.volume_ids
    assert transcript(world, started) == ["rose"]
    await fill(world)
    await world.lifecycle.stop(world.organization_id, instance.id)
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    warm = await world.warm_queries.all()
    assert (await start(world, instance)).sandbox_id == instance.sandbox_id
    assert await world.warm_queries.all() == warm


async def test_a_large_home_is_booted(world: World, instance: Instance) -> None:
    with patch.object(rehydration, "MAX_BYTES", 1000):
        started = await start(world, instance)
    assert (started.status, started.sandbox_id) == (RUNNING, instance.sandbox_id)
    assert world.snapshots.archives.ids() == set()


async def test_an_instance_with_another_egress_is_booted(world: World, instance: Instance) -> None:
    await world.instances.change(instance.id, now=world.clock.now, egress=Egress.OFF)
    started = await start(world, instance)
    assert started.sandbox_id == instance.sandbox_id
    assert len(await world.warm_queries.all()) == 1


async def test_an_instance_that_changes_during_the_move_keeps_its_sandbox(
    world: World, instance: Instance
) -> None:
    hold = world.engine.holds["unpause"] = Hold()
    (warm,) = await world.warm_queries.all()
    starting = asyncio.create_task(world.rehydration.move(Agent(world.agents, instance)))
    await hold.has_begun.wait()
    await world.instances.change(instance.id, now=world.clock.now, status=InstanceStatus.ERROR)
    hold.may_end.set()
    assert await starting is None
    assert world.engine.volume_ids == {instance.sandbox_id}
    assert warm.sandbox_id not in world.engine.containers


async def test_a_cancelled_move_loses_nothing(world: World, instance: Instance) -> None:
    hold = world.engine.holds["unpause"] = Hold()
    starting = asyncio.create_task(start(world, instance))
    await hold.has_begun.wait()
    starting.cancel()
    hold.may_end.set()
    await asyncio.wait([starting])
    assert (await world.now(instance)).sandbox_id == instance.sandbox_id
    await world.reconciler.reconcile()
    assert world.engine.volume_ids == {instance.sandbox_id}
    assert (await start(world, instance)).status is RUNNING


async def test_a_move_that_is_cancelled_while_its_row_is_written_loses_nothing(
    world: World, instance: Instance
) -> None:
    agent = Agent(world.agents, instance)
    move_sandbox = agent.move_sandbox

    async def cancelled(*arguments: Any) -> None:
        await move_sandbox(*arguments)
        raise asyncio.CancelledError

    with (
        patch.object(agent, "move_sandbox", cancelled),
        pytest.raises(asyncio.CancelledError),
    ):
        await world.rehydration.move(agent)
    await world.reconciler.reconcile()
    current = await world.now(instance)
    assert current.sandbox_id != instance.sandbox_id
    assert world.engine.volume_ids == {current.sandbox_id}


async def test_a_claim_for_a_move_publishes_an_event(world: World, instance: Instance) -> None:
    with world.events.follow(world.organization_id) as follower:
        started = await start(world, instance)
        world.events.close()
        events = [each async for batch in follower.batches() for each in batch]
    claims = [each for each in events if each.type is EventType.WARM_SANDBOX_CLAIMED]
    assert [(each.instance_id, dict(each.members)) for each in claims] == [
        (instance.id, {"sandbox_id": started.sandbox_id})
    ]
