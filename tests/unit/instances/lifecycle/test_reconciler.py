"""Store and engine are made to agree, whatever happened in between."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceId, InstanceStatus, SandboxId, SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.instances.lifecycle import provisioner
from chowder_local.instances.lifecycle.healing import DEATHS_ALLOWED, DEATHS_WINDOW_S
from chowder_local.instances.lifecycle.reconciler import ROUNDS_TO_VOLUMES
from tests.scripted.engine import Hold
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from tests.scripted.world import World

PROVISIONING, RUNNING, STOPPED, ERROR, TERMINATED = InstanceStatus
CREATED, UP, PAUSED, EXITED, MISSING = SandboxState
DOWN = EngineUnavailable("The engine is on holiday.")
STRANGER = SandboxId("chowder-strange")

TABLE = [
    # A boot that was cut off is begun again, whatever it has left.
    *[(PROVISIONING, state, RUNNING, UP, "boot") for state in SandboxState],
    # What runs goes on; what died is booted from its volume; what was paused is let go on.
    (RUNNING, UP, RUNNING, UP, None),
    (RUNNING, PAUSED, RUNNING, UP, "unpause"),
    *[(RUNNING, state, RUNNING, UP, "boot") for state in (CREATED, EXITED, MISSING)],
    # What is stopped does not run. That it is gone is no harm: its volume counts.
    (STOPPED, UP, STOPPED, PAUSED, "pause"),
    *[(STOPPED, state, STOPPED, state, None) for state in (CREATED, PAUSED, EXITED, MISSING)],
    # An error stays for somebody to look at.
    *[(ERROR, state, ERROR, state, None) for state in SandboxState],
    # What was deleted is destroyed.
    *[(TERMINATED, state, TERMINATED, MISSING, "remove") for state in SandboxState],
]
VERBS = ("boot", "pause", "unpause", "remove")


async def agreed(world: World) -> list[Instance]:
    """An instance for each row of the table, once there is no boot under way any more."""
    placed = []
    for number, (status, state, *_) in enumerate(TABLE):
        instance = await world.placed(status, number)
        world.engine.put(instance.sandbox_id, state)
        placed.append(instance)
    world.engine.calls.clear()
    await world.reconciler.agree()
    return [await world.settled(instance) for instance in placed]


async def test_row_and_sandbox_agree_after_one_round(world: World) -> None:
    unlike = {}
    for (status, state, *wanted), instance in zip(TABLE, await agreed(world), strict=True):
        verbs = [
            name for name, of in world.engine.calls if name in VERBS and of == instance.sandbox_id
        ]
        verb = ", ".join(verbs) or None
        got = [instance.status, world.engine.state(instance.sandbox_id), verb]
        has_volume = instance.sandbox_id in world.engine.having_volumes
        if got != wanted or has_volume == (status is TERMINATED):
            unlike[status, state] = got, has_volume
    assert not unlike


async def test_a_second_round_has_nothing_to_do(world: World) -> None:
    settled = await agreed(world)
    world.engine.calls.clear()
    await world.reconciler.agree()
    assert [await world.settled(instance) for instance in settled] == settled
    assert [name for name, _ in world.engine.calls] == ["sandboxes"]


@pytest.mark.parametrize("state", list(SandboxState))
async def test_a_sandbox_that_no_instance_has_is_removed_with_its_volume(
    world: World, state: SandboxState
) -> None:
    world.engine.put(STRANGER, state)
    await world.reconciler.agree()
    assert world.engine.found == {}
    assert world.engine.having_volumes == set()


async def test_a_volume_without_a_container_is_found_by_a_later_round(world: World) -> None:
    for _ in range(ROUNDS_TO_VOLUMES):
        await world.reconciler.agree()
    world.engine.having_volumes.add(STRANGER)
    await world.reconciler.agree()
    assert world.engine.having_volumes == set()
    assert world.engine.made("volumes") == 2


async def test_a_volume_that_cannot_be_removed_is_tried_again_in_the_next_round(
    world: World,
) -> None:
    world.engine.having_volumes.add(STRANGER)
    world.engine.failing["remove"] = EngineUnavailable("volume is in use")
    await world.reconciler.agree()
    del world.engine.failing["remove"]
    await world.reconciler.agree()
    assert world.engine.having_volumes == set()


async def test_a_sandbox_whose_row_was_written_while_the_engine_was_asked_is_left_alone(
    world: World,
) -> None:
    hold = world.engine.holds["volumes"] = Hold()
    async with asyncio.TaskGroup() as group:
        group.create_task(world.reconciler.agree())
        await hold.has_begun.wait()
        instance = await world.placed(RUNNING)
        world.engine.put(instance.sandbox_id, UP)
        hold.may_end.set()
    assert world.engine.state(instance.sandbox_id) is UP


async def test_a_sandbox_that_moved_to_another_port_is_found_there(world: World) -> None:
    instance = await world.placed(RUNNING, gateway_url="http://127.0.0.1:1")
    world.engine.put(instance.sandbox_id, UP)
    await world.reconciler.agree()
    assert (await world.now(instance)).gateway_url == world.engine.gateway_url


async def test_an_instance_is_looked_after_when_a_message_to_it_failed(world: World) -> None:
    instance = await world.placed(RUNNING)
    world.engine.put(instance.sandbox_id, EXITED)
    await world.healing.check(instance)
    assert (await world.settled(instance)).status is RUNNING
    assert world.engine.made("boot") == 1


async def test_a_death_that_the_engine_learns_of_a_moment_later_is_noticed(world: World) -> None:
    instance = await world.placed(RUNNING)
    world.engine.put(instance.sandbox_id, UP)
    async with asyncio.TaskGroup() as group:
        group.create_task(world.healing.check(instance))
        await eventually(lambda: world.engine.made("inspect"), "the engine was asked")
        world.engine.put(instance.sandbox_id, EXITED)
    assert (await world.settled(instance)).status is RUNNING
    assert world.engine.made("boot") == 1


async def test_an_instance_is_judged_by_what_it_is_now_not_by_what_was_seen(world: World) -> None:
    seen = await world.placed(RUNNING)
    world.engine.put(seen.sandbox_id, EXITED)
    await world.instances.change(seen.id, now=world.clock.now, status=STOPPED)
    await world.healing.check(seen)
    assert (await world.now(seen)).status is STOPPED
    assert world.engine.made("boot") == 0


async def test_an_instance_without_a_row_is_nobodys(world: World) -> None:
    instance = await world.placed(RUNNING)
    await world.healing.check(replace(instance, id=InstanceId("no-such")))
    assert world.engine.calls == []


async def test_a_boot_that_is_under_way_is_let_be(world: World) -> None:
    hold = world.engine.holds["boot"] = Hold()
    instance = await world.placed(PROVISIONING)
    world.engine.put(instance.sandbox_id, EXITED)
    world.provisioner.begin(instance)
    await hold.has_begun.wait()
    await world.reconciler.agree()
    await world.healing.check(instance)
    hold.may_end.set()
    assert (await world.settled(instance)).status is RUNNING
    assert world.engine.made("boot") == 1


async def test_an_instance_that_somebody_moves_holds_up_no_round(world: World) -> None:
    instance = await world.placed(RUNNING)
    world.engine.put(instance.sandbox_id, PAUSED)
    async with world.locks.holding(instance.id), asyncio.timeout(5):
        await world.reconciler.agree()
    assert world.engine.state(instance.sandbox_id) is PAUSED
    await world.reconciler.agree()
    assert world.engine.state(instance.sandbox_id) is UP


async def test_one_that_was_moved_just_before_its_turn_is_looked_at_again(world: World) -> None:
    instance = await world.placed(RUNNING)
    world.engine.put(instance.sandbox_id, PAUSED)
    async with asyncio.TaskGroup() as group, world.locks.holding(instance.id):
        group.create_task(world.healing.check(instance))
        await asyncio.sleep(0)
        await world.instances.change(instance.id, now=world.clock.now, status=STOPPED)
    assert world.engine.state(instance.sandbox_id) is PAUSED


@pytest.mark.parametrize(
    ("failure", "told"),
    [(DOWN, "put off"), (RuntimeError("a defect"), "failed unexpectedly")],
)
async def test_one_sandbox_that_cannot_be_dealt_with_stands_in_no_others_way(
    world: World, caplog: pytest.LogCaptureFixture, failure: Exception, told: str
) -> None:
    bad, good = await world.placed(RUNNING, 1), await world.placed(RUNNING, 2)
    for instance in (bad, good):
        world.engine.put(instance.sandbox_id, PAUSED)
    world.engine.put(STRANGER, EXITED)
    other = SandboxId("chowder-stranger")
    world.engine.put(other, EXITED)
    world.engine.failing[f"inspect {bad.sandbox_id}"] = failure
    world.engine.failing[f"remove {STRANGER}"] = failure
    await world.reconciler.agree()
    assert world.engine.state(good.sandbox_id) is UP
    assert world.engine.state(other) is MISSING
    lines = [each.getMessage() for each in caplog.records]
    assert [each for each in lines if str(bad.sandbox_id) in each and told in each] != []
    assert [each for each in lines if STRANGER in each and told in each] != []


# Dying


async def died(world: World, instance: Instance, **how: object) -> Instance:
    world.engine.put(instance.sandbox_id, EXITED, **how)
    await world.reconciler.agree()
    return await world.settled(instance)


async def test_an_agent_that_cannot_be_revived_yet_is_tried_again_until_the_engine_is_back(
    world: World,
) -> None:
    instance = await world.created()
    world.engine.failing["boot"] = EngineUnavailable("The engine is on holiday.")
    waiting = await died(world, instance)
    assert waiting.status is PROVISIONING
    assert waiting.error_message == "The engine is on holiday."
    del world.engine.failing["boot"]
    await world.reconciler.agree()
    revived = await world.settled(instance)
    assert revived.status is RUNNING
    assert revived.error_message is None


async def test_an_agent_that_dies_too_often_is_given_up_with_words(world: World) -> None:
    instance = await world.created()
    for _ in range(DEATHS_ALLOWED):
        world.clock.advance(10)
        assert (await died(world, instance)).status is RUNNING
    given_up = await died(world, instance, is_oom_killed=True)
    assert given_up.status is ERROR
    assert given_up.error_message is not None
    assert "ran out of memory and has died 4 times within 300 s" in given_up.error_message
    assert f"chowder-local logs {instance.id}" in given_up.error_message
    assert instance.sandbox_id in world.engine.having_volumes


def test_the_documents_count_as_the_code_does() -> None:
    assert (DEATHS_ALLOWED, DEATHS_WINDOW_S) == (3, 300)
    told = {each: " ".join(Path(each).read_text().split()) for each in ("README.md", "SECURITY.md")}
    assert "ended four times within five minutes is `error`" in told["README.md"]
    assert (
        "three times in five minutes, and the fourth time it is an `error`" in told["SECURITY.md"]
    )


async def test_who_is_stopped_or_killed_by_somebody_has_not_died(world: World) -> None:
    instance = await world.created()
    for _ in range(DEATHS_ALLOWED * 2):
        assert (await died(world, instance, is_signalled=True)).status is RUNNING
    # Nor is it held against it later.
    assert (await died(world, instance)).status is RUNNING


async def test_deaths_that_are_long_past_do_not_count(world: World) -> None:
    instance = await world.created()
    for _ in range(DEATHS_ALLOWED * 3):
        world.clock.advance(DEATHS_WINDOW_S / DEATHS_ALLOWED)
        assert (await died(world, instance)).status is RUNNING


async def test_one_agents_deaths_are_not_held_against_another(world: World) -> None:
    ada, bea = await world.created(), await world.created()
    for _ in range(DEATHS_ALLOWED):
        await died(world, ada)
    assert (await died(world, bea)).status is RUNNING


async def test_an_agent_that_comes_back_remembers_when_it_was_born(world: World) -> None:
    instance = await world.created()
    world.clock.advance(60)
    assert (await died(world, instance)).first_ready_at == instance.first_ready_at


# The engine itself


async def test_an_engine_that_is_down_changes_no_row(world: World) -> None:
    instance = await world.placed(RUNNING)
    world.engine.failing["sandboxes"] = DOWN
    with pytest.raises(EngineUnavailable):
        await world.reconciler.agree()
    assert await world.now(instance) == instance
    assert world.reconciler.engine_problem == "The engine is on holiday."


async def test_an_engines_trouble_is_logged_once_and_its_return_as_well(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.engine.failing["sandboxes"] = DOWN
    for _ in range(3):
        with pytest.raises(EngineUnavailable):
            await world.reconciler.agree()
    world.engine.failing.clear()
    await world.reconciler.agree()
    await world.reconciler.agree()
    told = [record.getMessage() for record in caplog.records if "engine" in record.getMessage()]
    assert told == ["engine: The engine is on holiday.", "engine: answers again"]
    assert world.reconciler.engine_problem is None


@pytest.mark.parametrize("failure", [DOWN, RuntimeError("a defect")])
async def test_the_loop_outlives_whatever_one_round_meets(world: World, failure: Exception) -> None:
    instance = await world.placed(RUNNING)
    world.engine.put(instance.sandbox_id, PAUSED)
    world.engine.failing["sandboxes"] = failure
    loop = world.tasks.create_task(world.reconciler.run())
    await eventually(lambda: world.engine.made("sandboxes") > 1, "a second round")
    world.engine.failing.clear()
    await eventually(lambda: world.engine.state(instance.sandbox_id) is UP, "it is mended")
    loop.cancel()


async def test_what_a_stop_has_left_in_which_the_server_died_is_ended_at_the_start(
    world: World,
) -> None:
    await world.created()
    world.gateway.is_suspended = True
    await world.begin()
    await eventually(lambda: not world.gateway.is_suspended, "it takes turns again")


async def test_an_agent_that_takes_turns_is_not_bothered_at_the_start(world: World) -> None:
    await world.created()
    probes = world.gateway.probes
    await world.begin()
    await eventually(lambda: world.gateway.probes > probes, "it was asked")
    await eventually(lambda: world.engine.made("sandboxes") > 0, "the first round is over")
    assert world.gateway.called("gateway.suspend.prepare") == []


async def test_agents_that_went_down_with_the_engine_have_not_died(world: World) -> None:
    instance = await world.created()
    for _ in range(DEATHS_ALLOWED + 1):
        world.engine.failing["sandboxes"] = DOWN
        with pytest.raises(EngineUnavailable):
            await world.reconciler.agree()
        world.engine.failing.clear()
        assert (await died(world, instance)).status is RUNNING


async def test_what_could_not_be_removed_with_the_engine_away_is_removed_when_it_is_back(
    world: World,
) -> None:
    # The first round has looked at the volumes; but for this, it would be long until the next.
    await world.reconciler.agree()
    world.engine.failing["sandboxes"] = DOWN
    with pytest.raises(EngineUnavailable):
        await world.reconciler.agree()
    world.engine.put(STRANGER, MISSING)
    world.engine.failing.clear()
    await world.reconciler.agree()
    await world.reconciler.agree()
    assert STRANGER not in world.engine.having_volumes


@pytest.mark.parametrize("fields", [{"state": MISSING}, {"state": UP, "gateway_url": None}])
async def test_what_no_sandbox_does_to_itself_is_no_death(
    world: World, fields: dict[str, Any]
) -> None:
    instance = await world.created()
    for _ in range(DEATHS_ALLOWED + 1):
        world.engine.put(instance.sandbox_id, **fields)
        await world.reconciler.agree()
        assert (await world.settled(instance)).status is RUNNING
    assert world.engine.made("boot") == DEATHS_ALLOWED + 2


async def test_an_agent_waits_for_its_image_and_says_so(world: World) -> None:
    instance = await world.created()
    world.engine.failing["boot"] = ImageMissing("chowder-local/sandbox:1")
    waiting = await died(world, instance)
    assert waiting.status is PROVISIONING
    assert "Get it with: chowder-local image build" in str(waiting.error_message)
    world.engine.failing.clear()
    await world.reconciler.agree()
    assert (await world.settled(instance)).status is RUNNING


async def died_of_a_full_disk(world: World) -> Instance:
    instance = await world.created()
    good, world.engine.log = world.engine.booted, "database: ENOSPC: no space left on device"
    world.engine.booted = replace(good, state=EXITED, exit_code=78)
    waiting = await died(world, instance)
    world.engine.booted = good
    return waiting


async def test_an_agent_waits_for_room_on_the_disk_and_is_not_booted_all_the_time(
    world: World,
) -> None:
    waiting = await died_of_a_full_disk(world)
    assert waiting.status is PROVISIONING
    assert "docker system df" in str(waiting.error_message)
    assert "ENOSPC" in str(waiting.error_message)
    attempts = world.engine.made("boot")
    await world.reconciler.agree()
    assert not world.provisioner.is_in_progress(waiting.id)
    assert world.engine.made("boot") == attempts


async def test_an_agent_is_booted_once_there_may_be_room_on_the_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provisioner, "FULL_PAUSE_S", 0.0)
    waiting = await died_of_a_full_disk(world)
    await world.reconciler.agree()
    assert (await world.settled(waiting)).status is RUNNING
