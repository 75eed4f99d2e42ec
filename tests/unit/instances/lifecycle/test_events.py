"""Events of instances, warm sandboxes and the engine, and who may see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus, ModelProvider, SandboxId, SandboxState
from chowder_local.core.errors.sandboxes import BootFailed, EngineUnavailable
from chowder_local.instances.lifecycle.creation import InstanceDraft
from tests.scripted.programs import done
from tests.scripted.serving import eventually
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chowder_local.core.domain import Instance
    from chowder_local.core.events import Event

BOOTED = ["boot.queued", "boot.begun", "boot.ended", "instance.status"]


class Heard:
    """The events since this was made."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._number = max((each.number for each in world.events.after(0)), default=0)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._world.events.after(self._number))

    @property
    def types(self) -> list[str]:
        return [str(each.type) for each in self]

    def more(self, kind: str) -> list[dict[str, Any]]:
        return [dict(each.more) for each in self if each.type == kind]

    def assert_all_of(self, instance: Instance) -> None:
        assert {each.instance_id for each in self} == {instance.id}
        assert {each.organization_id for each in self} == {instance.organization_id}


async def test_a_life_is_told_from_beginning_to_end(world: World) -> None:
    heard = Heard(world)
    instance = await world.created()
    await world.lifecycle.stop(world.organization_id, instance.id)
    await world.lifecycle.start(world.organization_id, instance.id)
    await world.lifecycle.delete(world.organization_id, instance.id)
    assert heard.types == [
        "instance.status", *BOOTED,
        "instance.status", "sandbox.resumed", "instance.status", "instance.status",
    ]  # fmt: skip
    statuses = [(each["before"], each["status"]) for each in heard.more("instance.status")]
    assert statuses == [
        (None, "provisioning"),
        ("provisioning", "running"),
        ("running", "stopped"),
        ("stopped", "running"),
        ("running", "terminated"),
    ]
    assert heard.more("boot.ended")[0]["outcome"] == "ready"
    heard.assert_all_of(instance)


async def test_a_boot_that_fails_is_told_with_the_error_words(world: World) -> None:
    heard = Heard(world)
    world.engine.failing["boot"] = BootFailed("It would not.")
    instance = await world.created()
    assert heard.more("boot.ended")[0]["outcome"] == "failed"
    last = heard.more("instance.status")[-1]
    assert (last["status"], last["error_message"]) == ("error", "It would not.")
    heard.assert_all_of(instance)


async def test_a_boot_that_is_given_up_is_told_to_be_over(tmp_path: Path) -> None:
    async with open_world(tmp_path, boot_concurrency=1) as world:
        heard = Heard(world)
        world.gateway.is_started = False
        drafts = InstanceDraft("under way"), InstanceDraft("waiting")
        made = [await world.creation.create(world.organization_id, draft) for draft in drafts]
        await eventually(lambda: world.boot_queue.position(made[1].id) == 1, "the second one waits")
        await eventually(lambda: "boot.begun" in heard.types, "the first one boots")
        for instance in reversed(made):
            await world.lifecycle.delete(world.organization_id, instance.id)
        provisioner = [
            (made.index(next(one for one in made if one.id == each.instance_id)), str(each.type))
            for each in heard
            if each.type.startswith("boot.")
        ]
        assert sorted(provisioner) == [
            (0, "boot.begun"), (0, "boot.ended"), (0, "boot.queued"),
            (1, "boot.ended"), (1, "boot.queued"),
        ]  # fmt: skip
        assert [each["outcome"] for each in heard.more("boot.ended")] == ["abandoned"] * 2


async def test_a_rename_is_no_event(world: World) -> None:
    instance = await world.created()
    heard = Heard(world)
    await world.reconfiguration.change(world.organization_id, instance.id, name="Bea")
    assert heard.types == []


async def test_a_change_that_comes_too_late_is_no_event(world: World) -> None:
    instance = await world.created()
    heard = Heard(world)
    changed = await world.instances.change(
        instance.id,
        only_from={InstanceStatus.STOPPED},
        now=world.clock.now,
        status=InstanceStatus.ERROR,
    )
    assert (changed, heard.types) == (None, [])


async def test_what_died_is_told_to_be_healed(world: World) -> None:
    instance = await world.created()
    heard = Heard(world)
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    await world.reconciler.agree()
    await world.settled(instance)
    assert sorted(heard.types) == sorted(["instance.status", "sandbox.reconciled", *BOOTED])
    (healed,) = heard.more("sandbox.reconciled")
    assert (healed["status"], healed["state"]) == ("running", "exited")
    heard.assert_all_of(instance)


async def test_a_round_with_nothing_to_mend_tells_nothing(world: World) -> None:
    await world.created()
    heard = Heard(world)
    await world.reconciler.agree()
    assert heard.types == []


async def test_a_sandbox_of_nobodys_is_told_to_be_removed(world: World) -> None:
    heard = Heard(world)
    world.engine.put(SandboxId("chowder-strange"), SandboxState.RUNNING)
    await world.reconciler.agree()
    assert heard.more("sandbox.removed") == [{"sandbox_id": "chowder-strange"}]
    assert [each.organization_id for each in heard] == [None]


async def test_an_engine_is_lost_once_and_back_once(world: World) -> None:
    heard = Heard(world)
    for words in ("away", "away", "still away"):
        world.engine.failing["sandboxes"] = EngineUnavailable(words)
        with pytest.raises(EngineUnavailable):
            await world.reconciler.agree()
    del world.engine.failing["sandboxes"]
    for _ in range(2):
        await world.reconciler.agree()
    assert heard.types == ["engine.lost", "engine.back"]
    assert [each.organization_id for each in heard] == [None, None]


async def test_a_stopped_agent_that_is_let_go_is_told_to_be(world: World) -> None:
    instance = await world.stopped()
    heard = Heard(world)
    world.clock.advance(901)
    await world.reconciler.agree()
    assert heard.types == ["sandbox.released"]
    heard.assert_all_of(instance)


async def test_a_warm_sandbox_is_told_to_be_made_claimed_and_discarded(tmp_path: Path) -> None:
    async with open_world(tmp_path, warm_pool_size=2) as world:
        world.programs.answers["sessions.delete"] = done()
        heard = Heard(world)
        while await world.pool.adjust():
            pass
        assert heard.types == ["warm_sandbox.made", "warm_sandbox.made"]
        assert [each.organization_id for each in heard] == [None, None]

        heard = Heard(world)
        instance = await world.created(model_provider=ModelProvider.ANTHROPIC)
        assert heard.types == ["warm_sandbox.claimed", "instance.status", "instance.status"]
        assert heard.more("warm_sandbox.claimed") == [{"sandbox_id": instance.sandbox_id}]
        heard.assert_all_of(instance)

        heard = Heard(world)
        (left,) = await world.warm_queries.all()
        assert await world.warm_sandboxes.discard(left)
        assert not await world.warm_sandboxes.discard(left)
        assert heard.more("warm_sandbox.discarded") == [{"sandbox_id": left.sandbox_id}]
