"""Reconciling the store with the engine, and healing instances."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.app.server import begin
from chowder_local.core.domain import (
    EngineNode,
    InstanceStatus,
    SandboxId,
    SandboxState,
)
from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.instances.lifecycle import provisioner, reconciler
from chowder_local.instances.lifecycle.reconciler import (
    DEATHS_ALLOWED,
    DEATHS_WINDOW_S,
    ROUNDS_PER_VOLUME_LISTING,
)
from tests.scripted.engine import Hold
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from tests.scripted.world import World

PROVISIONING, RUNNING, STOPPED, ERROR, TERMINATED = InstanceStatus
CREATED, UP, PAUSED, EXITED, MISSING, _ = SandboxState
DOWN = EngineUnavailable("The engine is on holiday.")
STRANGER = SandboxId("chowder-strange")

TABLE = [
    # An interrupted boot is begun again.
    *[(PROVISIONING, state, RUNNING, UP, "boot") for state in SandboxState],
    # A running instance whose sandbox died is booted from its volume; a paused one is resumed.
    (RUNNING, UP, RUNNING, UP, None),
    (RUNNING, PAUSED, RUNNING, UP, "unpause"),
    *[(RUNNING, state, RUNNING, UP, "boot") for state in (CREATED, EXITED, MISSING)],
    # A stopped instance must not run; its container may be gone.
    (STOPPED, UP, STOPPED, PAUSED, "pause"),
    *[(STOPPED, state, STOPPED, state, None) for state in (CREATED, PAUSED, EXITED, MISSING)],
    # A failed instance must not run, and keeps its volume.
    *[(ERROR, state, ERROR, EXITED, "release") for state in (UP, PAUSED)],
    *[(ERROR, state, ERROR, state, None) for state in SandboxState if state not in (UP, PAUSED)],
    # The sandbox of a deleted instance is destroyed.
    *[(TERMINATED, state, TERMINATED, MISSING, "remove") for state in SandboxState],
]
VERBS = ("boot", "pause", "unpause", "release", "remove")


async def reconcile_table(world: World) -> list[Instance]:
    """An instance for each row of the table, after one round and its boots."""
    placed = []
    for number, (status, state, *_) in enumerate(TABLE):
        placed.append(await world.placed(status, number, state))
    world.engine.calls.clear()
    await world.reconciler.reconcile()
    return [await world.settled(instance) for instance in placed]


async def test_row_and_sandbox_agree_after_one_round(world: World) -> None:
    mismatches = {}
    for (status, state, *wanted), instance in zip(TABLE, await reconcile_table(world), strict=True):
        verbs = [
            name for name, of in world.engine.calls if name in VERBS and of == instance.sandbox_id
        ]
        verb = ", ".join(verbs) or None
        got = [instance.status, world.engine.state(instance.sandbox_id), verb]
        has_volume = instance.sandbox_id in world.engine.volume_ids
        if got != wanted or has_volume == (status is TERMINATED):
            mismatches[status, state] = got, has_volume
    assert not mismatches


async def test_a_second_round_changes_nothing(world: World) -> None:
    settled = await reconcile_table(world)
    world.engine.calls.clear()
    await world.reconciler.reconcile()
    assert [await world.settled(instance) for instance in settled] == settled
    assert [name for name, _ in world.engine.calls] == ["sandboxes"]


@pytest.mark.parametrize("state", list(SandboxState))
async def test_an_orphaned_sandbox_is_removed_with_its_volume(
    world: World, state: SandboxState
) -> None:
    world.engine.put(STRANGER, state)
    await world.reconciler.reconcile()
    assert world.engine.containers == {}
    assert world.engine.volume_ids == set()


async def test_an_orphaned_volume_is_removed_by_a_later_round(world: World) -> None:
    for _ in range(ROUNDS_PER_VOLUME_LISTING):
        await world.reconciler.reconcile()
    world.engine.volume_ids.add(STRANGER)
    await world.reconciler.reconcile()
    assert world.engine.volume_ids == set()
    assert world.engine.made("volumes") == 2


async def test_volumes_of_a_machine_that_is_back_are_looked_at_at_once(world: World) -> None:
    away = EngineNode("host-1", False, False, 0, 8, None)
    world.engine.node_list = [away]
    await world.reconciler.reconcile()
    world.engine.volume_ids.add(STRANGER)
    await world.reconciler.reconcile()
    assert world.engine.volume_ids == {STRANGER}
    world.engine.node_list = [replace(away, is_linked=True)]
    await world.reconciler.reconcile()
    assert world.engine.volume_ids == set()


async def test_agents_that_a_machine_has_frozen_go_on_once_it_is_linked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "NODE_INTERVAL_S", 0.001)
    world.reconciler.interval_s = world.reconciler._due_s = math.inf
    away = EngineNode("host-1", False, False, 0, 8, None)
    world.engine.node_list = [away]
    instance = await world.placed(RUNNING, 1, PAUSED)
    loop = world.tasks.create_task(world.reconciler.run())
    world.engine.node_list = [replace(away, is_linked=True)]
    await eventually(lambda: world.engine.state(instance.sandbox_id) is UP, "it is resumed")
    loop.cancel()


async def test_agents_that_end_on_a_drained_machine_come_back_before_the_next_round_is_due(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "NODE_INTERVAL_S", 0.001)
    world.reconciler.interval_s = world.reconciler._due_s = math.inf
    node = EngineNode("host-1", True, False, 1, 8, None)
    world.engine.node_list = [node]
    instance = await world.placed(RUNNING, 1, UP)
    await world.reconciler.reconcile()
    loop = world.tasks.create_task(world.reconciler.run())
    world.engine.node_list = [replace(node, is_drained=True)]
    await eventually(lambda: world.engine.made("sandboxes") > 1, "the drain is seen")
    # The agent's gateway takes its time.
    world.engine.put(instance.sandbox_id, EXITED)
    await eventually(lambda: world.engine.made("boot") == 1, "it is booted")
    loop.cancel()


async def test_a_failed_removal_of_a_volume_is_retried_in_the_next_round(
    world: World,
) -> None:
    world.engine.volume_ids.add(STRANGER)
    world.engine.failing["remove"] = EngineUnavailable("volume is in use")
    await world.reconciler.reconcile()
    del world.engine.failing["remove"]
    await world.reconciler.reconcile()
    assert world.engine.volume_ids == set()


async def test_a_sandbox_whose_row_is_written_during_the_round_is_kept(
    world: World,
) -> None:
    hold = world.engine.holds["volumes"] = Hold()
    async with asyncio.TaskGroup() as group:
        group.create_task(world.reconciler.reconcile())
        await hold.has_begun.wait()
        instance = await world.placed(RUNNING)
        world.engine.put(instance.sandbox_id, UP)
        hold.may_end.set()
    assert world.engine.state(instance.sandbox_id) is UP


async def test_a_changed_port_of_a_sandbox_is_written_to_its_row(world: World) -> None:
    instance = await world.placed(RUNNING, gateway_url="http://127.0.0.1:1")
    world.engine.put(instance.sandbox_id, UP)
    await world.reconciler.reconcile()
    assert (await world.now(instance)).gateway_url == world.engine.address(instance.sandbox_id)


async def test_an_instance_is_healed_at_once_after_a_failed_message(world: World) -> None:
    instance = await world.placed(RUNNING)
    world.engine.put(instance.sandbox_id, EXITED)
    await world.healing.check(instance)
    assert (await world.settled(instance)).status is RUNNING
    assert world.engine.made("boot") == 1


async def test_a_death_that_the_engine_reports_late_is_noticed(world: World) -> None:
    instance = await world.placed(RUNNING, state=UP)
    async with asyncio.TaskGroup() as group:
        group.create_task(world.healing.check(instance))
        await eventually(lambda: world.engine.made("inspect"), "the engine was asked")
        world.engine.put(instance.sandbox_id, EXITED)
    assert (await world.settled(instance)).status is RUNNING
    assert world.engine.made("boot") == 1


async def test_healing_uses_the_current_status(world: World) -> None:
    seen = await world.placed(RUNNING)
    world.engine.put(seen.sandbox_id, EXITED)
    await world.instances.change(seen.id, now=world.clock.now, status=STOPPED)
    await world.healing.check(seen)
    assert (await world.now(seen)).status is STOPPED
    assert world.engine.made("boot") == 0


async def test_a_boot_in_progress_is_not_disturbed(world: World) -> None:
    hold = world.engine.holds["boot"] = Hold()
    instance = await world.placed(PROVISIONING)
    world.engine.put(instance.sandbox_id, EXITED)
    world.provisioner.begin(instance)
    await hold.has_begun.wait()
    await world.reconciler.reconcile()
    await world.healing.check(instance)
    hold.may_end.set()
    assert (await world.settled(instance)).status is RUNNING
    assert world.engine.made("boot") == 1


async def test_an_instance_whose_lock_is_held_does_not_delay_the_round(world: World) -> None:
    instance = await world.placed(RUNNING)
    world.engine.put(instance.sandbox_id, PAUSED)
    async with world.agents.holding(instance), asyncio.timeout(5):
        await world.reconciler.reconcile()
    assert world.engine.state(instance.sandbox_id) is PAUSED
    await world.reconciler.reconcile()
    assert world.engine.state(instance.sandbox_id) is UP


async def test_an_instance_that_changed_during_the_round_is_read_again(world: World) -> None:
    instance = await world.placed(RUNNING)
    world.engine.put(instance.sandbox_id, PAUSED)
    async with asyncio.TaskGroup() as group, world.agents.holding(instance):
        group.create_task(world.healing.check(instance))
        await asyncio.sleep(0)
        await world.instances.change(instance.id, now=world.clock.now, status=STOPPED)
    assert world.engine.state(instance.sandbox_id) is PAUSED


@pytest.mark.parametrize(
    ("failure", "told"),
    [(DOWN, "postponed"), (RuntimeError("a defect"), "failed unexpectedly")],
)
async def test_a_failure_with_one_sandbox_does_not_stop_the_round(
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
    await world.reconciler.reconcile()
    assert world.engine.state(good.sandbox_id) is UP
    assert world.engine.state(other) is MISSING
    lines = [each.getMessage() for each in caplog.records]
    assert [each for each in lines if str(bad.sandbox_id) in each and told in each] != []
    assert [each for each in lines if STRANGER in each and told in each] != []


# Deaths


async def died(world: World, instance: Instance, **how: object) -> Instance:
    world.engine.put(instance.sandbox_id, EXITED, **how)
    await world.reconciler.reconcile()
    return await world.settled(instance)


async def test_a_reboot_is_retried_until_the_engine_is_back(
    world: World,
) -> None:
    instance = await world.created()
    world.engine.failing["boot"] = EngineUnavailable("The engine is on holiday.")
    waiting = await died(world, instance)
    assert waiting.status is PROVISIONING
    assert waiting.error_message == "The engine is on holiday."
    del world.engine.failing["boot"]
    await world.reconciler.reconcile()
    revived = await world.settled(instance)
    assert revived.status is RUNNING
    assert revived.error_message is None


async def test_an_agent_that_dies_too_often_gets_an_error(world: World) -> None:
    instance = await world.created()
    for _ in range(DEATHS_ALLOWED):
        world.clock.advance(10)
        assert (await died(world, instance)).status is RUNNING
    given_up = await died(world, instance, is_oom_killed=True)
    assert given_up.status is ERROR
    assert given_up.error_message is not None
    assert (
        "ran out of memory (raise CHOWDER_MEMORY_LIMIT_MB) and has died 4 times within 300 s"
        in (given_up.error_message)
    )
    assert f"chowder-local logs {instance.id}" in given_up.error_message
    assert instance.sandbox_id in world.engine.volume_ids


async def test_a_sandbox_that_was_stopped_or_killed_manually_has_not_died(world: World) -> None:
    instance = await world.created()
    for _ in range(DEATHS_ALLOWED * 2):
        assert (await died(world, instance, is_signalled=True)).status is RUNNING
    # It does not count later either.
    assert (await died(world, instance)).status is RUNNING


async def test_deaths_before_the_window_do_not_count(world: World) -> None:
    instance = await world.created()
    for _ in range(DEATHS_ALLOWED * 3):
        world.clock.advance(DEATHS_WINDOW_S / DEATHS_ALLOWED)
        assert (await died(world, instance)).status is RUNNING


async def test_deaths_are_counted_for_each_agent(world: World) -> None:
    ada, bea = await world.created(), await world.created()
    for _ in range(DEATHS_ALLOWED):
        await died(world, ada)
    assert (await died(world, bea)).status is RUNNING


async def test_a_reboot_keeps_the_time_when_the_agent_was_first_ready(world: World) -> None:
    instance = await world.created()
    world.clock.advance(60)
    assert (await died(world, instance)).first_ready_at == instance.first_ready_at


# Failures of the engine


async def test_an_engine_that_is_down_changes_no_row(world: World) -> None:
    instance = await world.placed(RUNNING)
    world.engine.failing["sandboxes"] = DOWN
    with pytest.raises(EngineUnavailable):
        await world.reconciler.reconcile()
    assert await world.now(instance) == instance
    assert world.reconciler.engine_problem == "The engine is on holiday."


async def test_the_loss_and_return_of_the_engine_are_logged_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.engine.failing["sandboxes"] = DOWN
    for _ in range(3):
        with pytest.raises(EngineUnavailable):
            await world.reconciler.reconcile()
    world.engine.failing.clear()
    await world.reconciler.reconcile()
    await world.reconciler.reconcile()
    told = [record.getMessage() for record in caplog.records if "engine" in record.getMessage()]
    assert told == ["engine: The engine is on holiday.", "engine: answers again"]
    assert world.reconciler.engine_problem is None


@pytest.mark.parametrize("failure", [DOWN, RuntimeError("a defect")])
async def test_the_loop_survives_a_failed_round(world: World, failure: Exception) -> None:
    instance = await world.placed(RUNNING)
    world.engine.put(instance.sandbox_id, PAUSED)
    world.engine.failing["sandboxes"] = failure
    loop = world.tasks.create_task(world.reconciler.run())
    await eventually(lambda: world.engine.made("sandboxes") > 1, "a second round")
    world.engine.failing.clear()
    await eventually(lambda: world.engine.state(instance.sandbox_id) is UP, "it is repaired")
    loop.cancel()


async def test_a_drain_of_an_interrupted_stop_is_ended_at_startup(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.suspended.add(world.engine.address(instance.sandbox_id))
    await begin(world)
    await eventually(lambda: not world.gateway.suspended, "it takes turns again")


async def test_an_agent_that_accepts_turns_is_not_resumed_at_startup(world: World) -> None:
    await world.created()
    probes = world.gateway.probes
    await begin(world)
    await eventually(lambda: world.gateway.probes > probes, "it was asked")
    await eventually(lambda: world.engine.made("sandboxes") > 0, "the first round is over")
    assert world.gateway.called("gateway.suspend.prepare") == []


async def test_going_down_with_the_engine_is_no_death(world: World) -> None:
    instance = await world.created()
    for _ in range(DEATHS_ALLOWED + 1):
        world.engine.failing["sandboxes"] = DOWN
        with pytest.raises(EngineUnavailable):
            await world.reconciler.reconcile()
        world.engine.failing.clear()
        assert (await died(world, instance)).status is RUNNING


async def test_removals_that_failed_with_the_engine_down_are_retried_when_it_is_back(
    world: World,
) -> None:
    # The first round has listed the volumes; the next listing would be many rounds later.
    await world.reconciler.reconcile()
    world.engine.failing["sandboxes"] = DOWN
    with pytest.raises(EngineUnavailable):
        await world.reconciler.reconcile()
    world.engine.put(STRANGER, MISSING)
    world.engine.failing.clear()
    await world.reconciler.reconcile()
    await world.reconciler.reconcile()
    assert STRANGER not in world.engine.volume_ids


@pytest.mark.parametrize("fields", [{"state": MISSING}, {"state": UP, "gateway_url": None}])
async def test_an_ending_from_outside_is_no_death(world: World, fields: dict[str, Any]) -> None:
    instance = await world.created()
    for _ in range(DEATHS_ALLOWED + 1):
        world.engine.put(instance.sandbox_id, **fields)
        await world.reconciler.reconcile()
        assert (await world.settled(instance)).status is RUNNING
    assert world.engine.made("boot") == DEATHS_ALLOWED + 2


async def test_an_agent_waits_for_a_missing_image(world: World) -> None:
    instance = await world.created()
    world.engine.failing["boot"] = ImageMissing("chowder-local/sandbox:1")
    waiting = await died(world, instance)
    assert waiting.status is PROVISIONING
    assert "Get it with: chowder-local image build" in str(waiting.error_message)
    world.engine.failing.clear()
    await world.reconciler.reconcile()
    assert (await world.settled(instance)).status is RUNNING


async def died_of_a_full_disk(world: World) -> Instance:
    instance = await world.created()
    good, world.engine.log = world.engine.booted, "database: ENOSPC: no space left on device"
    world.engine.booted = replace(good, state=EXITED, exit_code=78)
    waiting = await died(world, instance)
    world.engine.booted = good
    return waiting


async def test_on_a_full_disk_boots_are_paused(
    world: World,
) -> None:
    waiting = await died_of_a_full_disk(world)
    assert waiting.status is PROVISIONING
    assert "docker system df" in str(waiting.error_message)
    assert "ENOSPC" in str(waiting.error_message)
    attempts = world.engine.made("boot")
    await world.reconciler.reconcile()
    assert not world.provisioner.is_in_progress(waiting.id)
    assert world.engine.made("boot") == attempts


async def test_an_agent_is_booted_again_after_the_pause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provisioner, "DISK_FULL_PAUSE_S", 0.0)
    waiting = await died_of_a_full_disk(world)
    await world.reconciler.reconcile()
    assert (await world.settled(waiting)).status is RUNNING
