"""From `provisioning` to `running` or `error`."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chowder_local.core.domain import InstanceStatus, ModelProvider, SandboxInfo, SandboxState
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.instances.lifecycle.boots import CHECKS_OF_PROGRESS
from tests.scripted.engine import Hold
from tests.scripted.serving import eventually
from tests.scripted.world import World, open_world

PROVISIONING, RUNNING, ERROR = (
    InstanceStatus.PROVISIONING,
    InstanceStatus.RUNNING,
    InstanceStatus.ERROR,
)


async def test_a_new_sandbox_has_a_configuration_with_its_own_tokens(world: World) -> None:
    instance = await world.created(
        model_provider=ModelProvider.OPENAI,
        openclaw_config={"agents.defaults.thinkingDefault": "off"},
    )
    config = json.loads(world.engine.files[instance.sandbox_id]["openclaw.json"])
    assert config["gateway"]["auth"]["token"] == world.secret_box.gateway_token(instance.sandbox_id)
    assert config["agents"]["defaults"]["model"]["primary"] == "chowder-openai/gpt-4o"
    assert config["agents"]["defaults"]["thinkingDefault"] == "off"
    keys = {each["apiKey"] for each in config["models"]["providers"].values()}
    assert keys == {world.secret_box.relay_token(instance.sandbox_id)}


async def test_a_boot_whose_outcome_cannot_be_written_ends_no_other_task(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = world.instances.change

    async def full(*_: object, **__: object) -> None:
        monkeypatch.setattr(world.instances, "change", change)
        raise DataDirUnusable("The disk is full.")

    monkeypatch.setattr(world.instances, "change", full)
    instance = await world.created()
    assert instance.status is PROVISIONING
    await world.reconciler.reconcile()
    assert (await world.settled(instance)).status is RUNNING


@pytest.mark.parametrize("call", ["boot", "remove"])
async def test_a_failure_of_the_engine_leaves_an_error_with_its_message(
    world: World, call: str
) -> None:
    world.engine.failing[call] = EngineUnavailable("The engine is on holiday.")
    instance = await world.created()
    assert instance.status is ERROR
    assert instance.error_message == (
        "This instance was never ready and is not booted again. The engine is on holiday."
    )
    assert instance.gateway_url is None
    assert instance.first_ready_at is None


async def test_a_boot_past_its_time_limit_leaves_no_running_sandbox_but_its_volume(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path, boot_timeout_s=0.05) as world:
        world.gateway.is_started = False
        instance = await world.created()
        assert instance.status is ERROR
        assert "was not ready after 0.05 s" in (instance.error_message or "")
        assert world.engine.state(instance.sandbox_id) is SandboxState.EXITED
        assert world.engine.volume_ids == {instance.sandbox_id}


async def test_a_boot_whose_log_goes_on_has_more_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(tmp_path, boot_timeout_s=0.05) as world:
        world.gateway.is_started = False
        log_tail = world.engine.log_tail

        async def read_log(*arguments: Any) -> str:
            world.engine.log += "a step\n"
            world.gateway.is_started = world.engine.made("log_tail") > CHECKS_OF_PROGRESS
            return await log_tail(*arguments)

        monkeypatch.setattr(world.engine, "log_tail", read_log)
        assert (await world.created()).status is RUNNING


async def test_a_boot_whose_log_never_ends_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(tmp_path, boot_timeout_s=0.05) as world:
        world.gateway.is_started = False
        log_tail = world.engine.log_tail

        async def read_log(*arguments: Any) -> str:
            world.engine.log += "once more\n"
            return await log_tail(*arguments)

        monkeypatch.setattr(world.engine, "log_tail", read_log)
        instance = await world.created()
        assert instance.status is ERROR
        assert "was not ready after 0.15 s" in (instance.error_message or "")
        assert "CHOWDER_BOOT_TIMEOUT_S" in (instance.error_message or "")


async def test_an_unexpected_exception_leaves_an_error_without_its_message(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.engine.failing["boot"] = RuntimeError("secret words")
    instance = await world.created()
    assert instance.status is ERROR
    assert instance.error_message == "An internal error; the server's log has the details."
    assert "secret words" in caplog.text


async def test_leftovers_of_an_instance_that_was_never_ready_are_removed(world: World) -> None:
    instance = await world.placed(PROVISIONING, first_ready_at=None, gateway_url=None)
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    world.provisioner.begin(instance)
    assert (await world.settled(instance)).status is RUNNING
    calls = [name for name, _ in world.engine.calls]
    assert calls.index("remove") < calls.index("boot")


async def test_an_instance_that_was_ready_before_keeps_its_volume_and_files(world: World) -> None:
    instance = await world.placed(PROVISIONING, gateway_url=None)
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    world.clock.advance(60)
    world.provisioner.begin(instance)
    booted = await world.settled(instance)
    assert booted.status is RUNNING
    assert booted.first_ready_at == instance.first_ready_at
    assert world.engine.made("remove") == 0
    assert world.engine.files[instance.sandbox_id] == {}


async def test_a_missing_volume_is_not_replaced_by_an_empty_one(world: World) -> None:
    instance = await world.placed(PROVISIONING, gateway_url=None)
    world.provisioner.begin(instance)
    failed = await world.settled(instance)
    assert failed.status is ERROR
    assert failed.error_message is not None
    assert "files and memory is gone" in failed.error_message
    assert world.engine.made("boot") == 0


async def test_a_boot_in_progress_is_not_begun_again(world: World) -> None:
    hold = world.engine.holds["boot"] = Hold()
    instance = await world.placed(PROVISIONING, first_ready_at=None)
    world.provisioner.begin(instance)
    world.provisioner.begin(instance)
    await hold.has_begun.wait()
    assert world.provisioner.is_in_progress(instance.id)
    hold.may_end.set()
    assert (await world.settled(instance)).status is RUNNING
    assert world.engine.made("boot") == 1


async def test_the_number_of_concurrent_boots_is_bounded(tmp_path: Path) -> None:
    async with open_world(tmp_path, boot_concurrency=2) as world:
        hold = world.engine.holds["boot"] = Hold()
        instances = [await world.placed(PROVISIONING, number) for number in range(1, 5)]
        for instance in instances:
            world.engine.put(instance.sandbox_id, SandboxState.EXITED)
            world.provisioner.begin(instance)
        await eventually(lambda: world.engine.made("boot") == 2, "two boots have begun")
        # Every boot with a slot has called the engine by now.
        for _ in range(50):
            await asyncio.sleep(0)
        assert world.engine.made("boot") == 2
        hold.may_end.set()
        for instance in instances:
            assert (await world.settled(instance)).status is RUNNING
        assert world.engine.made("boot") == 4


async def test_an_abandoned_boot_does_nothing_more(world: World) -> None:
    hold = world.engine.holds["boot"] = Hold()
    instance = await world.placed(PROVISIONING, first_ready_at=None, gateway_url=None)
    world.provisioner.begin(instance)
    await hold.has_begun.wait()
    await world.provisioner.abandon(instance.id)
    assert not world.provisioner.is_in_progress(instance.id)
    assert (await world.now(instance)).status is PROVISIONING


async def test_a_boot_that_ends_with_the_engine_is_tried_again(world: World) -> None:
    instance = await world.placed(PROVISIONING, gateway_url=None)
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    whole = world.engine.booted
    world.engine.booted = replace(whole, state=SandboxState.EXITED, is_signalled=True)
    world.provisioner.begin(instance)
    await eventually(lambda: not world.provisioner.in_progress_count, "it has ended")
    waiting = await world.now(instance)
    assert waiting.status is PROVISIONING
    assert "was ended from outside" in (waiting.error_message or "")
    world.engine.booted = whole
    await world.reconciler.reconcile()
    assert (await world.settled(instance)).status is RUNNING


async def test_a_start_that_openclaw_gives_up_on_a_busy_machine_is_tried_once_more(
    world: World,
) -> None:
    world.engine.log = "Error: state lease heartbeat did not become ready (status=starting)"
    whole = world.engine.booted
    world.engine.booted = replace(whole, state=SandboxState.EXITED, exit_code=1)
    instance = await world.created()
    assert instance.status is ERROR
    assert world.engine.made("boot") == 2
    hold = world.engine.holds["boot"] = Hold()
    instance = await world.creation.create(world.organization_id, name="Ada")
    await hold.has_begun.wait()
    world.engine.booted = whole
    hold.may_end.set()
    assert (await world.settled(instance)).status is RUNNING
    assert world.engine.made("boot") == 4


async def test_abandoning_an_instance_that_does_not_boot_does_nothing(world: World) -> None:
    instance = await world.placed(RUNNING)
    await world.provisioner.abandon(instance.id)
    assert await world.now(instance) == instance


@pytest.mark.parametrize("outcome", [RUNNING, ERROR])
async def test_a_boot_that_ends_after_the_status_has_changed_changes_nothing(
    world: World, outcome: InstanceStatus
) -> None:
    hold = world.engine.holds["boot"] = Hold()
    if outcome is ERROR:
        world.engine.booted = SandboxInfo(world.engine.booted.id, SandboxState.EXITED)
    instance = await world.placed(PROVISIONING, first_ready_at=None, gateway_url=None)
    world.provisioner.begin(instance)
    await hold.has_begun.wait()
    moved = await world.instances.change(
        instance.id, now=world.clock.now, status=InstanceStatus.TERMINATED
    )
    hold.may_end.set()
    assert await world.settled(instance) == moved
