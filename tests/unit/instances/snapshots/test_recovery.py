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
from chowder_local.core.events import EventType
from chowder_local.instances.lifecycle.agents import Agent
from chowder_local.instances.snapshots.recovery import AWAY_S
from tests.scripted.homes import archive
from tests.scripted.talking import REQUEST, respond
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
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await saved_agent(world)
    take_away(world, instance)
    await world.recovery.recover()
    world.clock.advance(AWAY_S - 1)
    await world.recovery.recover()
    assert await world.now(instance) == instance
    world.clock.advance(1)
    # Each attempt at a drain would take seconds, one agent after the other.
    monkeypatch.delattr(Agent, "drain")
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


async def recovered(world: World, instance: Instance) -> Instance:
    """The agent, which has come back elsewhere."""
    take_away(world, instance)
    await world.recovery.recover()
    world.clock.advance(AWAY_S)
    await world.recovery.recover()
    return await world.settled(instance)


async def say(world: World, instance: Instance, text: str, session: str | None = None) -> None:
    await respond(world, instance, REQUEST | {"input": text}, session)


def received(world: World) -> list[str]:
    """The texts of the latest message to the agent."""
    value = world.gateway.messages[-1].body["input"]
    contents = [value] if isinstance(value, str) else [each["content"] for each in value]
    return [each if isinstance(each, str) else each[0]["text"] for each in contents]


async def test_it_hears_again_what_was_answered_since_the_snapshot_once(world: World) -> None:
    instance = await world.created()
    await say(world, instance, "Before.")
    world.engine.put_home(instance.sandbox_id, archive(FILES))
    await world.interval_snapshots.take_due()
    world.clock.advance(1)
    await say(world, instance, "First.")
    await say(world, instance, "Long." * 10_000, session="other")
    with world.events.follow(world.organization_id) as follower:
        instance = await recovered(world, instance)
        world.events.close()
        events = [each async for batch in follower.batches() for each in batch]
    (event,) = [each.members for each in events if each.type is EventType.INSTANCE_RECOVERED]
    assert (event["messages"], event["sessions"]) == (2, ["other"])
    await say(world, instance, "Second.")
    note, *again = received(world)
    assert "The machine of this agent was lost." in note
    assert again == ["First.", "Hello there.", "Second."]
    await say(world, instance, "Third.")
    assert received(world) == ["Third."]
    await say(world, instance, "Fourth.", session="other")
    note, *again = received(world)
    assert "0 follow with their answers, and 1 are missing" in note
    assert again == ["Fourth."]


async def test_it_hears_nothing_again_once_its_owner_has_restored_a_snapshot(world: World) -> None:
    instance = await saved_agent(world)
    world.clock.advance(1)
    await say(world, instance, "First.")
    instance = await recovered(world, instance)
    (snapshot,) = await world.snapshots.of_instance(instance.id)
    await world.restores.restore(world.organization_id, instance, snapshot.id)
    await say(world, await world.settled(instance), "Second.")
    assert received(world) == ["Second."]


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
