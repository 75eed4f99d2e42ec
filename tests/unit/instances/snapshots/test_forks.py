"""Forks and restores."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import (
    Egress,
    EngineMemory,
    Instance,
    InstanceStatus,
    SandboxState,
    SnapshotId,
)
from chowder_local.core.errors.requests import (
    InstanceNotFound,
    InstanceStateWrong,
    SnapshotNotFound,
)
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.events import EventType
from chowder_local.openclaw.session_keys import session_key
from chowder_local.openclaw.shortcuts import STATE_TRANSFER
from tests.scripted.agents import CONVERSATIONS, agent_at, first_column
from tests.scripted.engine import Hold
from tests.scripted.homes import archive, of_folder
from tests.scripted.programs import done
from tests.scripted.serving import eventually
from tests.scripted.shortcuts import make_unfit
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOTES = ".openclaw/workspace/notes.md"
CONFIG = ".openclaw/openclaw.json"
OWN = {
    "gateway": {"auth": {"token": "the original's"}},
    "agents": {"defaults": {"thinkingDefault": "off"}},
    "channels": {"telegram": {"enabled": True, "botToken": "bot"}},
}
ERROR, RUNNING = InstanceStatus.ERROR, InstanceStatus.RUNNING


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        world.programs.answers["sessions.delete"] = done()
        yield world


async def agent(world: World, notes: bytes = b"teal") -> Instance:
    instance = await world.created(openclaw_config={"a.b": 1})
    change_notes(world, instance, notes)
    await world.sessions.remember(instance.id, "Ticket 1", session_key("Ticket 1"), world.clock.now)
    return instance


def change_notes(world: World, instance: Instance, notes: bytes) -> None:
    files = {CONFIG: json.dumps(OWN).encode(), NOTES: notes}
    world.engine.put_home(instance.sandbox_id, archive(files))


def notes_of(world: World, instance: Instance) -> bytes | None:
    notes = world.engine.home(instance.sandbox_id) / NOTES
    return notes.read_bytes() if notes.exists() else None


def config_of(world: World, instance: Instance) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(world.engine.files[instance.sandbox_id]["openclaw.json"])
    return told


async def list_alive(world: World) -> list[Instance]:
    pages = world.instances.of_organization(world.organization_id)
    return [each async for page in pages for each in page]


async def names(world: World, instance: Instance) -> list[str]:
    return [each.name for each in await world.sessions.of_instance(instance.id)]


async def test_a_fork_has_the_files_conversations_and_configuration_of_its_original(
    world: World,
) -> None:
    original = await agent(world)
    fork = await world.settled(await world.forks.fork(original, "Bea"))
    assert (fork.name, fork.status) == ("Bea", RUNNING)
    assert fork.sandbox_id != original.sandbox_id
    assert dict(fork.openclaw_config or {}) == {"a.b": 1}
    assert notes_of(world, fork) == b"teal"
    assert await names(world, fork) == ["Ticket 1"]
    (session,) = await world.sessions.of_instance(fork.id)
    assert session.session_key == session_key("Ticket 1")
    config = config_of(world, fork)
    assert config["agents"] == OWN["agents"]
    assert config["gateway"]["auth"]["token"] == world.secret_box.gateway_token(fork.sandbox_id)
    assert "the original's" not in json.dumps(config)
    # Two agents with one channel would take each other's messages.
    assert config["channels"] == {"telegram": {"enabled": False, "botToken": "bot"}}


async def test_the_snapshot_of_a_fork_is_removed_once_the_fork_is_ready(world: World) -> None:
    original = await agent(world)
    hold = world.engine.holds["boot"] = Hold()
    fork = await world.forks.fork(original, "Bea")
    await hold.has_begun.wait()
    await world.reconciler.reconcile()
    assert len(await world.snapshot_queries.ids()) == 1
    hold.may_end.set()
    await world.settled(fork)
    await world.reconciler.reconcile()
    assert await world.snapshot_queries.ids() == set()
    assert await world.snapshots.of_organization(world.organization_id) == []


async def test_an_interrupted_fork_is_finished_at_the_next_startup(world: World) -> None:
    snapshot = await world.snapshots.take(await agent(world))
    await world.snapshot_queries.release(snapshot.id)
    fork = await world.placed(
        InstanceStatus.PROVISIONING,
        first_ready_at=None,
        gateway_url=None,
        origin_snapshot_id=snapshot.id,
    )
    await world.reconciler.reconcile()
    assert (await world.settled(fork)).status is RUNNING
    assert notes_of(world, fork) == b"teal"
    assert await names(world, fork) == ["Ticket 1"]


async def test_forks_of_a_snapshot_are_independent_of_later_changes_to_the_original(
    world: World,
) -> None:
    original = await agent(world)
    snapshot = await world.snapshots.take(original)
    change_notes(world, original, b"later")
    await world.lifecycle.delete(world.organization_id, original.id)
    forks = [
        await world.settled(
            await world.forks.fork_snapshot(world.organization_id, snapshot.id, name)
        )
        for name in ("Bea", "Cid")
    ]
    assert [notes_of(world, each) for each in forks] == [b"teal", b"teal"]
    assert [await names(world, each) for each in forks] == [["Ticket 1"], ["Ticket 1"]]


async def test_a_fork_whose_copy_fails_is_removed(world: World) -> None:
    original = await agent(world)
    world.engine.failing["read_home"] = EngineUnavailable("busy")
    with pytest.raises(EngineUnavailable):
        await world.forks.fork(original, "Bea")
    assert [each.id for each in await list_alive(world)] == [original.id]
    assert await world.snapshot_queries.ids() == set()
    assert world.engine.volume_ids == {original.sandbox_id}


@pytest.mark.parametrize("pool_size", [0, 1])
async def test_a_fork_whose_request_is_cancelled_is_removed(tmp_path: Path, pool_size: int) -> None:
    async with open_world(tmp_path, warm_pool_size=pool_size) as world:
        world.programs.answers["sessions.delete"] = done()
        original = await agent(world)
        while await world.pool.adjust():
            pass
        hold = world.engine.holds["read_home"] = Hold()
        forking = asyncio.create_task(world.forks.fork(original, "Bea"))
        await hold.has_begun.wait()
        (fork,) = [each for each in await list_alive(world) if each.id != original.id]
        forking.cancel()
        await asyncio.wait([forking])
        assert forking.cancelled()
        assert [each.id for each in await list_alive(world)] == [original.id]
        assert world.engine.volume_ids == {original.sandbox_id}
        assert not world.provisioner.is_in_progress(fork.id)
        await world.reconciler.reconcile()
        assert await world.snapshot_queries.ids() == set()


async def test_a_fork_whose_copy_was_interrupted_by_a_crash_is_removed(world: World) -> None:
    original = await agent(world)
    unborn = await world.placed(
        InstanceStatus.PROVISIONING,
        first_ready_at=None,
        gateway_url=None,
        origin_snapshot_id=SnapshotId("unfinished"),
    )
    world.engine.put(unborn.sandbox_id, SandboxState.RUNNING)
    await world.reconciler.reconcile()
    assert (await world.settled(unborn)).status is InstanceStatus.TERMINATED
    assert [each.id for each in await list_alive(world)] == [original.id]
    await eventually(
        lambda: world.engine.volume_ids == {original.sandbox_id}, "its sandbox is gone"
    )


@pytest.mark.parametrize("pool_size", [0, 1])
async def test_a_fork_that_waits_for_its_copy_delays_no_other_boot(
    tmp_path: Path, pool_size: int
) -> None:
    async with open_world(tmp_path, warm_pool_size=pool_size) as world:
        world.programs.answers["sessions.delete"] = done()
        original = await agent(world)
        while await world.pool.adjust():
            pass
        hold = world.engine.holds["read_home"] = Hold()
        async with asyncio.TaskGroup() as group:
            forking = group.create_task(world.forks.fork(original, "Bea"))
            await hold.has_begun.wait()
            (fork,) = [each for each in await list_alive(world) if each.id != original.id]
            assert (fork.status, world.boot_queue.length) == (InstanceStatus.PROVISIONING, 0)
            # Another instance boots meanwhile.
            assert (await world.created()).status is RUNNING
            hold.may_end.set()
        fork = await world.settled(await forking)
        assert (fork.status, notes_of(world, fork)) == (RUNNING, b"teal")


@pytest.mark.parametrize("is_restored", [False, True])
async def test_a_fork_keeps_the_egress_setting_and_claims_no_warm_sandbox_with_another(
    tmp_path: Path, *, is_restored: bool
) -> None:
    async with open_world(tmp_path, warm_pool_size=1) as world:
        world.programs.answers["sessions.delete"] = done()
        original = await agent(world)
        await world.instances.change(original.id, now=world.clock.now, egress=Egress.OFF)
        while await world.pool.adjust():
            pass
        (warm_sandbox,) = await world.warm_queries.all()
        if is_restored:
            snapshot = await world.snapshots.take(original)
            made = await world.restores.restore(world.organization_id, original, snapshot.id)
        else:
            made = await world.forks.fork(original, "Bea")
        assert (made.egress, world.engine.made("boot")) == (Egress.OFF, 2)
        assert made.sandbox_id != warm_sandbox.sandbox_id
        await world.settled(made)
        assert (await world.engine.inspect(made.sandbox_id)).egress is Egress.OFF
        assert await world.warm_queries.all() == [warm_sandbox]


async def test_without_a_readable_configuration_a_fork_gets_the_overrides(
    world: World,
) -> None:
    original = await agent(world)
    files = {CONFIG: b"{ a: 1 } // not JSON", NOTES: b"teal"}
    world.engine.put_home(original.sandbox_id, archive(files))
    fork = await world.settled(await world.forks.fork(original, "Bea"))
    assert config_of(world, fork)["a"] == {"b": 1}


async def test_a_restore_brings_back_the_state_of_the_snapshot(world: World) -> None:
    original = await agent(world)
    snapshot = await world.snapshots.take(original)
    change_notes(world, original, b"later")
    await world.sessions.remember(original.id, "Ticket 2", session_key("Ticket 2"), world.clock.now)
    restored = await world.restores.restore(world.organization_id, original, snapshot.id)
    assert (restored.id, restored.status) == (original.id, InstanceStatus.PROVISIONING)
    restored = await world.settled(restored)
    assert (restored.status, notes_of(world, restored)) == (RUNNING, b"teal")
    assert await names(world, restored) == ["Ticket 1"]
    # A restored agent keeps its channels.
    assert config_of(world, restored)["channels"] == OWN["channels"]
    assert original.sandbox_id not in world.engine.volume_ids
    assert await world.snapshots.of_instance(original.id) != []


@pytest.mark.parametrize("status", [InstanceStatus.STOPPED, InstanceStatus.ERROR])
async def test_a_stopped_or_failed_instance_runs_after_a_restore(
    world: World, status: InstanceStatus
) -> None:
    original = await agent(world)
    snapshot = await world.snapshots.take(original)
    await world.instances.change(
        original.id, now=world.clock.now, status=status, error_message="broken"
    )
    restored = await world.settled(
        await world.restores.restore(world.organization_id, original, snapshot.id)
    )
    assert (restored.status, restored.error_message) == (RUNNING, None)


async def test_the_former_sandbox_is_removed_later_if_that_fails_at_first(world: World) -> None:
    original = await agent(world)
    snapshot = await world.snapshots.take(original)
    key = f"remove {original.sandbox_id}"
    world.engine.failing[key] = EngineUnavailable("busy")
    await world.settled(await world.restores.restore(world.organization_id, original, snapshot.id))
    assert original.sandbox_id in world.engine.volume_ids
    del world.engine.failing[key]
    await world.reconciler.reconcile()
    assert original.sandbox_id not in world.engine.volume_ids


async def test_a_refused_restore_changes_nothing(world: World) -> None:
    original = await agent(world)
    snapshot = await world.snapshots.take(original)
    with pytest.raises(SnapshotNotFound):
        await world.restores.restore(world.organization_id, original, "none")
    with pytest.raises(SnapshotNotFound):
        await world.forks.fork_snapshot(world.organization_id, "none", "Bea")
    await world.lifecycle.delete(world.organization_id, original.id)
    with pytest.raises(InstanceStateWrong):
        await world.restores.restore(world.organization_id, original, snapshot.id)
    unknown = Instance(**vars(original) | {"id": "none"})
    with pytest.raises(InstanceNotFound):
        await world.restores.restore(world.organization_id, unknown, snapshot.id)


async def test_forks_and_restores_publish_events(world: World) -> None:
    original = await agent(world)
    with world.events.follow(world.organization_id) as follower:
        snapshot = await world.snapshots.take(original)
        fork = await world.forks.fork_snapshot(world.organization_id, snapshot.id, "Bea")
        await world.settled(fork)
        restored = await world.restores.restore(world.organization_id, original, snapshot.id)
        await world.settled(restored)
        await world.snapshots.remove(world.organization_id, snapshot.id)
        world.events.close()
        events = [each async for batch in follower.batches() for each in batch]
    wanted = {
        EventType.SNAPSHOT_MADE, EventType.INSTANCE_FORKED, EventType.INSTANCE_RESTORED,
        EventType.SNAPSHOT_REMOVED,
    }  # fmt: skip
    found = [(each.type, each.instance_id, dict(each.members)) for each in events]
    of = {"snapshot_id": snapshot.id}
    assert [each for each in found if each[0] in wanted] == [
        (EventType.SNAPSHOT_MADE, original.id, of),
        (EventType.INSTANCE_FORKED, fork.id, of | {"of_instance_id": original.id}),
        (EventType.INSTANCE_RESTORED, original.id, of),
        (EventType.SNAPSHOT_REMOVED, original.id, of),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="the program runs in sandboxes only")
async def test_a_warm_sandbox_becomes_a_fork_without_a_boot(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path, warm_pool_size=1) as world:
        world.programs.answers["sessions.delete"] = done()
        original = await world.created()
        world.engine.put_home(
            original.sandbox_id, of_folder(agent_at(tmp_path / "original", "teal").parent)
        )
        world.engine.furnish = lambda home: agent_at(home, "warm-up")
        for is_restored in (False, True):
            while await world.pool.adjust():
                pass
            booted = world.engine.made("boot")
            if is_restored:
                snapshot = await world.snapshots.take(original)
                made = await world.restores.restore(world.organization_id, original, snapshot.id)
            else:
                made = await world.forks.fork(original, "Bea")
            made = await world.settled(made)
            assert (made.status, made.sandbox_id) == (RUNNING, world.engine.warm_sandboxes[-1])
            assert world.engine.made("boot") == booted
            assert first_column(world.state_of(made)) == ["teal"]


@pytest.mark.skipif(sys.platform != "linux", reason="the program runs in sandboxes only")
@pytest.mark.parametrize("is_fit", [True, False])
async def test_a_booting_warm_sandbox_becomes_a_fork_unless_the_home_needs_another_boot(
    tmp_path: Path, *, is_fit: bool
) -> None:
    async with open_world(tmp_path, warm_pool_size=1) as world:
        original = await agent(world)
        state = agent_at(tmp_path / "original", "teal")
        if not is_fit:
            (state / "npm" / "package").mkdir(parents=True)
            (state / "npm" / "package" / "index.js").touch()
        world.engine.put_home(original.sandbox_id, of_folder(state.parent))
        # Without a turn, OpenClaw creates the database when a session is requested.
        unmade = tmp_path / "unmade"
        world.engine.furnish = lambda home: (agent_at(home) / CONVERSATIONS).rename(unmade)
        world.gateway.on_history = lambda: (
            unmade.exists() and unmade.rename(world.state_of(fork) / CONVERSATIONS)
        )
        world.gateway.is_started = False
        booted = world.gateway.probes
        making = asyncio.create_task(world.pool.adjust())
        await eventually(lambda: world.gateway.probes > booted, "the warm sandbox boots")
        # No memory for another one.
        world.engine.memory_reading = EngineMemory(5_000_000_000, None)
        fork = await world.forks.fork(original, "Bea")
        assert fork.sandbox_id == world.engine.warm_sandboxes[-1]
        if is_fit:
            await eventually(lambda: world.processes.unpacked == 1, "the home is there")
            assert unmade.exists()
        else:
            await eventually(lambda: world.engine.made("boot") == 3, "it is booted again")
            # This does not wait for the warm sandbox's boot.
            assert not making.done()
        world.gateway.is_started = True
        fork = await world.settled(fork)
        await making
        assert (fork.status, world.engine.made("boot")) == (RUNNING, 2 if is_fit else 3)
        if is_fit:
            assert first_column(world.state_of(fork)) == ["teal"]


async def test_a_warm_sandbox_that_cannot_be_hydrated_is_booted_again(tmp_path: Path) -> None:
    async with open_world(tmp_path, warm_pool_size=1) as world:
        world.programs.answers["sessions.delete"] = done()
        original = await agent(world)
        while await world.pool.adjust():
            pass
        # The home of the warm sandbox lacks the databases for the transfer.
        fork = await world.settled(await world.forks.fork(original, "Bea"))
        assert fork.status is RUNNING
        assert world.engine.made("boot") == 3
        assert notes_of(world, fork) == b"teal"


async def test_a_running_turn_ends_before_the_copy(world: World) -> None:
    original = await agent(world)
    world.gateway.busy_rounds = 3
    fork = await world.forks.fork(original, "Bea")
    asked = [method for method, _ in world.gateway.rpc_calls if "suspend" in method]
    assert asked == [
        "gateway.suspend.prepare",
        *["gateway.suspend.status"] * 3,
        "gateway.suspend.resume",
    ]
    assert (await world.settled(fork)).status is RUNNING


async def test_if_the_state_transfer_does_not_fit_forks_and_restores_boot(tmp_path: Path) -> None:
    async with open_world(tmp_path, warm_pool_size=1) as world:
        make_unfit(world.engine, STATE_TRANSFER)
        world.programs.answers["sessions.delete"] = done()
        original = await agent(world)
        while await world.pool.adjust():
            pass
        (warm,) = world.engine.warm_sandboxes
        fork = await world.settled(await world.forks.fork(original, "Bea"))
        snapshot = await world.snapshots.take(original)
        restored = await world.restores.restore(world.organization_id, original, snapshot.id)
        restored = await world.settled(restored)
        for made in (fork, restored):
            assert (made.status, notes_of(world, made)) == (RUNNING, b"teal")
        # A new agent may still have it.
        assert [each.sandbox_id for each in await world.warm_queries.all()] == [warm]
