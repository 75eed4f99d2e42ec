"""Events of instances, warm sandboxes and the engine, and their organizations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus, ModelProvider, SandboxId, SandboxState
from chowder_local.core.errors.sandboxes import BootFailed, EngineUnavailable
from tests.scripted.programs import done
from tests.scripted.serving import eventually
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chowder_local.core.domain import Instance
    from chowder_local.core.events import Event

BOOTED = ["boot.queued", "boot.begun", "boot.ended", "instance.status"]


class EventLog:
    """The events since the log was created."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._number = max((each.number for each in world.events.after(0)), default=0)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._world.events.after(self._number))

    @property
    def types(self) -> list[str]:
        return [str(each.type) for each in self]

    def more(self, kind: str) -> list[dict[str, Any]]:
        return [dict(each.members) for each in self if each.type == kind]

    def assert_all_of(self, instance: Instance) -> None:
        assert {each.instance_id for each in self} == {instance.id}
        assert {each.organization_id for each in self} == {instance.organization_id}


async def test_the_events_of_an_instance_from_create_to_delete(world: World) -> None:
    log = EventLog(world)
    instance = await world.created()
    await world.lifecycle.stop(world.organization_id, instance.id)
    await world.lifecycle.start(world.organization_id, instance.id)
    await world.lifecycle.delete(world.organization_id, instance.id)
    assert log.types == [
        "instance.status", *BOOTED,
        "instance.status", "sandbox.resumed", "instance.status", "instance.status",
    ]  # fmt: skip
    statuses = [(each["before"], each["status"]) for each in log.more("instance.status")]
    assert statuses == [
        (None, "provisioning"),
        ("provisioning", "running"),
        ("running", "stopped"),
        ("stopped", "running"),
        ("running", "terminated"),
    ]
    assert log.more("boot.ended")[0]["outcome"] == "ready"
    log.assert_all_of(instance)


async def test_the_events_of_a_failed_boot_have_the_error_message(world: World) -> None:
    log = EventLog(world)
    world.engine.failing["boot"] = BootFailed("It would not.")
    instance = await world.created()
    assert log.more("boot.ended")[0]["outcome"] == "failed"
    last = log.more("instance.status")[-1]
    assert (last["status"], last["error_message"]) == ("error", "It would not.")
    log.assert_all_of(instance)


async def test_an_abandoned_boot_has_an_ended_event(tmp_path: Path) -> None:
    async with open_world(tmp_path, boot_concurrency=1) as world:
        log = EventLog(world)
        world.gateway.is_started = False
        names = "under way", "waiting"
        made = [await world.creation.create(world.organization_id, name=each) for each in names]
        await eventually(lambda: world.boot_queue.position(made[1].id) == 1, "the second one waits")
        await eventually(lambda: "boot.begun" in log.types, "the first one boots")
        for instance in reversed(made):
            await world.lifecycle.delete(world.organization_id, instance.id)
        provisioner = [
            (made.index(next(one for one in made if one.id == each.instance_id)), str(each.type))
            for each in log
            if each.type.startswith("boot.")
        ]
        assert sorted(provisioner) == [
            (0, "boot.begun"), (0, "boot.ended"), (0, "boot.queued"),
            (1, "boot.ended"), (1, "boot.queued"),
        ]  # fmt: skip
        assert [each["outcome"] for each in log.more("boot.ended")] == ["abandoned"] * 2


async def test_a_rename_publishes_no_event(world: World) -> None:
    instance = await world.created()
    log = EventLog(world)
    await world.reconfiguration.change(world.organization_id, instance.id, name="Bea")
    assert log.types == []


async def test_a_transition_that_loses_a_race_publishes_no_event(world: World) -> None:
    instance = await world.created()
    log = EventLog(world)
    changed = await world.instances.change(
        instance.id,
        only_from={InstanceStatus.STOPPED},
        now=world.clock.now,
        status=InstanceStatus.ERROR,
    )
    assert (changed, log.types) == (None, [])


async def test_healing_publishes_an_event(world: World) -> None:
    instance = await world.created()
    log = EventLog(world)
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    await world.reconciler.reconcile()
    await world.settled(instance)
    assert sorted(log.types) == sorted(["instance.status", "sandbox.reconciled", *BOOTED])
    (healed,) = log.more("sandbox.reconciled")
    assert (healed["status"], healed["state"]) == ("running", "exited")
    log.assert_all_of(instance)


async def test_a_round_without_repairs_publishes_no_event(world: World) -> None:
    await world.created()
    log = EventLog(world)
    await world.reconciler.reconcile()
    assert log.types == []


async def test_the_removal_of_an_orphan_publishes_an_event(world: World) -> None:
    log = EventLog(world)
    world.engine.put(SandboxId("chowder-strange"), SandboxState.RUNNING)
    await world.reconciler.reconcile()
    assert log.more("sandbox.removed") == [{"sandbox_id": "chowder-strange"}]
    assert [each.organization_id for each in log] == [None]


async def test_the_loss_and_return_of_the_engine_are_published_once(world: World) -> None:
    log = EventLog(world)
    for words in ("away", "away", "still away"):
        world.engine.failing["sandboxes"] = EngineUnavailable(words)
        with pytest.raises(EngineUnavailable):
            await world.reconciler.reconcile()
    del world.engine.failing["sandboxes"]
    for _ in range(2):
        await world.reconciler.reconcile()
    assert log.types == ["engine.lost", "engine.back"]
    assert [each.organization_id for each in log] == [None, None]


async def test_an_eviction_publishes_an_event(world: World) -> None:
    instance = await world.stopped()
    log = EventLog(world)
    world.clock.advance(901)
    await world.reconciler.reconcile()
    assert log.types == ["sandbox.released"]
    log.assert_all_of(instance)


async def test_the_events_of_warm_sandboxes(tmp_path: Path) -> None:
    async with open_world(tmp_path, warm_pool_size=2) as world:
        world.programs.answers["sessions.delete"] = done()
        log = EventLog(world)
        while await world.pool.adjust():
            pass
        assert log.types == ["warm_sandbox.made", "warm_sandbox.made"]
        assert [each.organization_id for each in log] == [None, None]

        log = EventLog(world)
        instance = await world.created(model_provider=ModelProvider.ANTHROPIC)
        assert log.types == ["warm_sandbox.claimed", "instance.status", "instance.status"]
        assert log.more("warm_sandbox.claimed") == [{"sandbox_id": instance.sandbox_id}]
        log.assert_all_of(instance)

        log = EventLog(world)
        (left,) = await world.warm_queries.all()
        assert await world.warm_sandboxes.discard(left)
        assert not await world.warm_sandboxes.discard(left)
        assert log.more("warm_sandbox.discarded") == [{"sandbox_id": left.sandbox_id}]
