"""Taking and removing snapshots, and recovery from failures and crashes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import (
    Instance,
    InstanceStatus,
    ModelProvider,
    SandboxState,
    Snapshot,
    SnapshotId,
)
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.errors.requests import (
    ArchiveRefused,
    InstanceNotFound,
    InstanceStateWrong,
    SnapshotNotFound,
)
from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxMissing
from chowder_local.openclaw.session_keys import session_key
from tests.scripted import homes
from tests.scripted.engine import Hold
from tests.scripted.homes import archive, blank, contents
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOTES = ".openclaw/workspace/notes.md"
RUNNING, PAUSED = SandboxState.RUNNING, SandboxState.PAUSED


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


async def agent(world: World) -> Instance:
    instance = await world.created(openclaw_config={"logging.level": "debug"})
    world.engine.put_home(instance.sandbox_id, archive({NOTES: b"teal"}))
    await world.sessions.remember(instance.id, "Ticket 1", session_key("Ticket 1"), world.clock.now)
    return instance


async def run_after_leftovers(
    world: World, monkeypatch: pytest.MonkeyPatch, hold: Hold, work: asyncio.Task[object]
) -> None:
    """Lets work end just after the store has listed the unneeded snapshots."""
    leftovers = world.snapshot_queries.leftovers

    async def outrun() -> set[SnapshotId]:
        found = await leftovers()
        hold.may_end.set()
        await work
        return found

    with monkeypatch.context() as outrunning:
        outrunning.setattr(world.snapshot_queries, "leftovers", outrun)
        await world.snapshots.clear_unneeded()


def archive_names(world: World) -> list[str]:
    folder = world.snapshots.archives.path(SnapshotId("x")).parent
    return sorted(path.name for path in folder.glob("*"))


async def test_a_snapshot_has_files_conversations_and_configuration(world: World) -> None:
    instance = await agent(world)
    snapshot = await world.snapshots.take(instance, "before")
    assert (snapshot.instance_id, snapshot.name, snapshot.is_whole) == (instance.id, "before", True)
    path = world.snapshots.archives.path(snapshot.id)
    assert contents(path.read_bytes()) == {NOTES: b"teal"}
    assert snapshot.size_bytes == path.stat().st_size
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert snapshot.content["overrides"] == {"logging.level": "debug"}
    (session,) = snapshot.content["sessions"]
    assert session["name"] == "Ticket 1"
    assert archive_names(world) == [f"{snapshot.id}.tar"]


async def test_a_running_agent_is_frozen_while_it_is_copied_and_then_goes_on(world: World) -> None:
    instance = await agent(world)
    hold = world.engine.holds["read_home"] = Hold()
    taking = world.tasks.create_task(world.snapshots.take(instance))
    await hold.has_begun.wait()
    assert world.engine.state(instance.sandbox_id) is PAUSED
    hold.may_end.set()
    await taking
    assert world.engine.state(instance.sandbox_id) is RUNNING
    assert not world.gateway.suspended
    assert (await world.now(instance)).status is InstanceStatus.RUNNING


async def test_a_stopped_agent_stays_as_it_is(world: World) -> None:
    instance = await world.stopped()
    await world.snapshots.take(instance)
    assert world.engine.state(instance.sandbox_id) is PAUSED
    assert world.engine.made("unpause") == 0


async def test_a_dead_sandbox_is_copied_from_its_volume(world: World) -> None:
    instance = await agent(world)
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    assert (await world.snapshots.take(instance)).is_whole
    assert world.engine.made("unpause") == 0


async def test_after_a_failure_nothing_is_left_and_the_agent_runs(world: World) -> None:
    instance = await agent(world)
    world.engine.failing["read_home"] = EngineUnavailable("gone")
    with pytest.raises(EngineUnavailable):
        await world.snapshots.take(instance)
    assert world.engine.state(instance.sandbox_id) is RUNNING
    assert (archive_names(world), await world.snapshot_queries.ids()) == ([], set())


async def test_an_invalid_home_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await agent(world)
    monkeypatch.setattr(homes, "of_folder", lambda _: b"no archive" * 1000)
    with pytest.raises(ArchiveRefused):
        await world.snapshots.take(instance)
    assert (archive_names(world), await world.snapshot_queries.ids()) == ([], set())


async def test_a_snapshot_succeeds_even_if_the_agent_cannot_be_resumed(world: World) -> None:
    instance = await agent(world)
    await world.instances.change(instance.id, now=world.clock.now, gateway_url=None)
    assert (await world.snapshots.take(instance)).is_whole
    assert world.engine.state(instance.sandbox_id) is RUNNING


async def test_a_cancelled_snapshot_resumes_the_agent_and_is_removed(world: World) -> None:
    instance = await agent(world)
    hold = world.engine.holds["read_home"] = Hold()
    taking = asyncio.ensure_future(world.snapshots.take(instance))
    await hold.has_begun.wait()
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    del world.engine.holds["read_home"]
    assert world.engine.state(instance.sandbox_id) is RUNNING
    await world.reconciler.reconcile()
    assert (archive_names(world), await world.snapshot_queries.ids()) == ([], set())


@pytest.mark.parametrize(
    "status", [InstanceStatus.PROVISIONING, InstanceStatus.TERMINATED, InstanceStatus.ERROR]
)
async def test_an_instance_that_was_never_ready_has_no_snapshot(
    world: World, status: InstanceStatus
) -> None:
    instance = await world.placed(status, first_ready_at=None)
    with pytest.raises(InstanceStateWrong, match="running or stopped"):
        await world.snapshots.take(instance)


async def test_a_failed_instance_can_be_copied(world: World) -> None:
    instance = await world.placed(InstanceStatus.ERROR)
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    assert (await world.snapshots.take(instance)).is_whole
    lost = await world.placed(InstanceStatus.ERROR, 2)
    with pytest.raises(SandboxMissing):
        await world.snapshots.take(lost)


async def test_a_snapshot_of_a_missing_instance_raises(world: World) -> None:
    instance = await world.created()
    with pytest.raises(InstanceNotFound):
        await world.snapshots.take(replace(instance, id="none"))  # type: ignore[arg-type]  # no id


async def test_snapshots_are_listed_oldest_first_and_outlive_their_instance(world: World) -> None:
    instance, other = await agent(world), await world.created()
    snapshot_ids = []
    for each in (instance, other, instance):
        world.clock.advance(1)
        snapshot_ids.append((await world.snapshots.take(each)).id)
    await world.lifecycle.delete(world.organization_id, instance.id)
    listed = await world.snapshots.of_instance(instance.id)
    assert [each.id for each in listed] == [snapshot_ids[0], snapshot_ids[2]]
    everything = await world.snapshots.of_organization(world.organization_id)
    assert [each.id for each in everything] == snapshot_ids
    await world.reconciler.reconcile()
    assert len(archive_names(world)) == 3


async def test_a_removed_snapshot_is_gone_with_its_archive(world: World) -> None:
    snapshot = await world.snapshots.take(await agent(world))
    await world.snapshots.remove(world.organization_id, snapshot.id)
    assert archive_names(world) == []
    with pytest.raises(SnapshotNotFound):
        await world.snapshots.get(world.organization_id, snapshot.id)
    with pytest.raises(SnapshotNotFound):
        await world.snapshots.remove(world.organization_id, snapshot.id)


async def test_a_snapshot_of_another_organization_is_not_found(world: World) -> None:
    snapshot = await world.snapshots.take(await agent(world))
    with pytest.raises(SnapshotNotFound):
        await world.snapshots.get("another", snapshot.id)  # type: ignore[arg-type]  # no id


async def test_unneeded_snapshots_are_removed_and_used_ones_stay(world: World) -> None:
    whole = await world.snapshots.take(await agent(world))
    archives = world.snapshots.archives
    half = replace(whole, id=SnapshotId("half"), is_whole=False)
    unkept = replace(whole, id=SnapshotId("unkept"), is_kept=False)
    used = replace(whole, id=SnapshotId("used"), is_whole=False)
    for each in (half, unkept, used):
        await world.snapshots.add(each)
        archives.raw(each.id).write_bytes(b"")
    archives.path(SnapshotId("nobody")).write_bytes(b"")
    with world.snapshots.using(used.id):
        await world.reconciler.reconcile()
        assert archive_names(world) == sorted([f"{whole.id}.tar", "used.raw"])
    await world.reconciler.reconcile()
    assert archive_names(world) == [f"{whole.id}.tar"]
    assert await world.snapshot_queries.ids() == {whole.id}


async def test_a_snapshot_that_is_finished_during_a_clearing_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await agent(world)
    hold = world.engine.holds["read_home"] = Hold()
    taking = world.tasks.create_task(world.snapshots.take(instance))
    await hold.has_begun.wait()
    await run_after_leftovers(world, monkeypatch, hold, taking)
    snapshot = taking.result()
    assert await world.snapshots.get(world.organization_id, snapshot.id) == snapshot
    assert archive_names(world) == [f"{snapshot.id}.tar"]


async def test_the_snapshot_of_a_fork_stays_during_a_clearing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await agent(world)
    hold = world.engine.holds["read_home"] = Hold()
    forking = world.tasks.create_task(world.forks.fork(instance, "Bea"))
    await hold.has_begun.wait()
    await run_after_leftovers(world, monkeypatch, hold, forking)
    assert (await world.settled(forking.result())).status is InstanceStatus.RUNNING


async def test_a_snapshot_that_was_removed_during_its_copy_raises(
    world: World,
) -> None:
    snapshot_id = SnapshotId("lost")
    raw = world.snapshots.archives.raw(snapshot_id)
    raw.write_bytes(blank())
    with raw.open("rb") as source, pytest.raises(SnapshotNotFound):
        await world.snapshots.import_archive(snapshot_id, source, {})
    assert archive_names(world) == []


async def test_reading_the_archive_of_a_missing_snapshot_raises(world: World) -> None:
    instance = await world.created()
    unborn = replace(instance, first_ready_at=None, origin_snapshot_id=SnapshotId("gone"))
    with pytest.raises(SandboxMissing, match="is gone"):
        await world.snapshots.source(unborn)
    await world.snapshots.restore_conversations(unborn)
    assert await world.sessions.of_instance(instance.id) == []


async def test_an_imported_snapshot_has_no_instance(world: World) -> None:
    imported = Snapshot(
        SnapshotId("imported"),
        world.organization_id,
        ModelProvider.OPENAI,
        world.clock.now + timedelta(seconds=1),
        is_whole=True,
    )
    await world.snapshots.add(imported)
    found = await world.snapshots.get(world.organization_id, "imported")
    assert (found.instance_id, dict(found.content)) == (None, {})


async def test_a_failed_removal_of_an_archive_is_retried(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = await world.snapshots.take(await agent(world))

    def refusing(_: SnapshotId) -> None:
        raise DataDirUnusable("read-only")

    with monkeypatch.context() as broken:
        broken.setattr(world.snapshots.archives, "remove", refusing)
        await world.snapshots.remove(world.organization_id, snapshot.id)
        assert archive_names(world) == [f"{snapshot.id}.tar"]
    await world.reconciler.reconcile()
    assert archive_names(world) == []
