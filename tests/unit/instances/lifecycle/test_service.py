"""What a user does with an instance, and what is left when it fails."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.accounts.credentials import ModelCredentials, ModelKeys
from chowder_local.core.domain import (
    Caller,
    Instance,
    InstanceStatus,
    KeyId,
    ModelProvider,
    OrganizationId,
    SandboxState,
    Tier,
)
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import ConfigRefused, GatewayUnavailable
from chowder_local.core.errors.requests import (
    InstanceLimitReached,
    InstanceNotFound,
    InstanceStateWrong,
)
from chowder_local.core.errors.sandboxes import (
    BootFailed,
    DiskFull,
    EngineSilent,
    EngineUnavailable,
    ImageMissing,
    SandboxMissing,
)
from chowder_local.core.errors.upstream import RelayTokenInvalid
from chowder_local.instances.lifecycle.creation import InstanceDraft
from chowder_local.relay.scripts.rules import ReplyScript
from tests.scripted.engine import Hold
from tests.scripted.gateway import refused
from tests.scripted.pages import all_of
from tests.scripted.serving import eventually
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Move = Callable[[World, Instance], Awaitable[Any]]

PROVISIONING, RUNNING, STOPPED, ERROR, TERMINATED = InstanceStatus
NOT_RUNNING = [PROVISIONING, STOPPED, ERROR, TERMINATED]
NOT_STOPPED = [PROVISIONING, RUNNING, ERROR, TERMINATED]
DOWN = EngineUnavailable("The engine is on holiday.")


async def stop(world: World, instance: Instance) -> Instance:
    return await world.lifecycle.stop(world.organization_id, instance.id)


async def start(world: World, instance: Instance) -> Instance:
    return await world.lifecycle.start(world.organization_id, instance.id)


async def delete(world: World, instance: Instance) -> None:
    await world.lifecycle.delete(world.organization_id, instance.id)


async def change(world: World, instance: Instance, **what: Any) -> Instance:
    changed = await world.reconfiguration.change(world.organization_id, instance.id, **what)
    return changed.instance


async def listed(world: World, organization_id: OrganizationId) -> list[Instance]:
    return await all_of(world.directory.all(Caller(organization_id, KeyId("its-own"))))


# Creating and looking


async def test_a_new_instance_is_answered_before_it_is_booted(world: World) -> None:
    hold = world.engine.holds["boot"] = Hold()
    instance = await world.creation.create(world.organization_id, InstanceDraft(name="Ada"))
    assert instance.status is PROVISIONING
    assert instance == await world.now(instance)
    hold.may_end.set()
    assert (await world.settled(instance)).status is RUNNING


async def test_an_instance_over_the_tiers_limit_is_neither_kept_nor_booted(world: World) -> None:
    details, _ = await world.organizations.signup("Small", tier=Tier.SHRIMP)
    small = details.organization.id
    first = await world.creation.create(small, InstanceDraft(name="one"))
    await world.settled(first)
    with pytest.raises(InstanceLimitReached, match="1/1"):
        await world.creation.create(small, InstanceDraft(name="two"))
    assert [each.id for each in await listed(world, small)] == [first.id]


async def test_a_deleted_instance_makes_room_for_another(world: World) -> None:
    details, _ = await world.organizations.signup("Small", tier=Tier.SHRIMP)
    small = details.organization.id
    first = await world.creation.create(small, InstanceDraft(name="one"))
    await world.lifecycle.delete(small, first.id)
    await world.settled(await world.creation.create(small, InstanceDraft(name="two")))


async def test_a_configuration_that_cannot_be_set_makes_no_instance(world: World) -> None:
    draft = InstanceDraft(name="Ada", openclaw_config={"gateway.port": 1})
    with pytest.raises(ConfigRefused):
        await world.creation.create(world.organization_id, draft)
    assert await listed(world, world.organization_id) == []


@pytest.mark.parametrize("move", [stop, start, delete, change])
async def test_another_organizations_instance_is_not_found(world: World, move: Move) -> None:
    instance = await world.created()
    with pytest.raises(InstanceNotFound):
        await move(replace(world, organization_id=OrganizationId("somebody-else")), instance)
    assert await world.now(instance) == instance


async def test_the_list_leaves_out_what_is_terminated(world: World) -> None:
    ada, bea = await world.created(name="Ada"), await world.created(name="Bea")
    await delete(world, ada)
    assert [each.id for each in await listed(world, world.organization_id)] == [bea.id]


# Stopping and starting


async def test_a_stop_drains_the_turn_that_runs_and_pauses(world: World) -> None:
    instance = await world.created()
    world.gateway.busy_rounds = 2
    stopped = await stop(world, instance)
    assert stopped.status is STOPPED
    assert world.engine.state(instance.sandbox_id) is SandboxState.PAUSED
    assert world.gateway.called("gateway.suspend.prepare") == [
        {"requestId": instance.sandbox_id, "drain": True}
    ]
    assert len(world.gateway.called("gateway.suspend.status")) == 2
    assert world.gateway.tokens == {f"Bearer {world.box.gateway_token(instance.sandbox_id)}"}


async def test_a_turn_that_does_not_end_is_frozen_after_a_while(tmp_path: Path) -> None:
    async with open_world(tmp_path, drain_timeout_s=0.05) as world:
        instance = await world.created()
        world.gateway.busy_rounds = 1_000_000
        assert (await stop(world, instance)).status is STOPPED
        assert world.engine.state(instance.sandbox_id) is SandboxState.PAUSED


async def test_a_gateway_that_will_not_be_suspended_is_stopped_all_the_same(world: World) -> None:
    instance = await world.created()
    world.gateway.rpc_answers["gateway.suspend.prepare"] = refused("no", 503)
    assert (await stop(world, instance)).status is STOPPED


async def test_a_sandbox_that_has_died_is_stopped_already(world: World) -> None:
    instance = await world.created()
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    assert (await stop(world, instance)).status is STOPPED
    assert world.engine.made("pause") == 0


async def test_a_start_lets_the_sandbox_go_on_and_its_gateway_take_turns(world: World) -> None:
    instance = await world.stopped()
    started = await start(world, instance)
    assert started.status is RUNNING
    assert started.gateway_url == world.engine.gateway_url
    assert world.engine.state(instance.sandbox_id) is SandboxState.RUNNING
    assert not world.gateway.is_suspended
    assert world.engine.made("boot") == 1


async def test_a_start_begins_no_suspension_to_end_one(world: World) -> None:
    instance = await world.stopped()
    await start(world, instance)
    assert len(world.gateway.called("gateway.suspend.prepare")) == 1
    assert len(world.gateway.called("gateway.suspend.resume")) == 1


async def test_what_an_earlier_life_of_the_server_has_suspended_is_ended(world: World) -> None:
    instance = await world.placed(STOPPED)
    world.engine.put(instance.sandbox_id, SandboxState.PAUSED)
    world.gateway.is_suspended = True
    assert (await start(world, instance)).status is RUNNING
    assert not world.gateway.is_suspended
    assert world.engine.made("boot") == 0


async def test_stops_and_starts_that_openclaw_has_enough_of_boot_nothing(world: World) -> None:
    instance = await world.created()
    limited = refused("rate limit exceeded for gateway.suspend.prepare; retry after 59s", 503)
    world.gateway.rpc_answers["gateway.suspend.prepare"] = limited
    await stop(world, instance)
    assert (await start(world, instance)).status is RUNNING
    assert world.engine.made("boot") == 1


@pytest.mark.parametrize("state", [SandboxState.EXITED, SandboxState.MISSING, SandboxState.CREATED])
async def test_a_stopped_sandbox_that_is_gone_is_booted_from_its_volume(
    world: World, state: SandboxState
) -> None:
    instance = await world.stopped()
    world.engine.put(instance.sandbox_id, state)
    removed = world.engine.made("remove")
    assert (await start(world, instance)).status is RUNNING
    assert world.engine.made("boot") == 2
    assert world.engine.made("remove") == removed


@pytest.mark.parametrize("status", NOT_RUNNING)
async def test_only_a_running_instance_can_be_stopped(world: World, status: InstanceStatus) -> None:
    instance = await world.placed(status)
    with pytest.raises(InstanceStateWrong, match=f"is {status}, but must be running"):
        await stop(world, instance)
    assert await world.now(instance) == instance


@pytest.mark.parametrize("status", NOT_STOPPED)
async def test_only_a_stopped_instance_can_be_started(world: World, status: InstanceStatus) -> None:
    instance = await world.placed(status)
    with pytest.raises(InstanceStateWrong, match=f"is {status}, but must be stopped"):
        await start(world, instance)
    assert await world.now(instance) == instance


@pytest.mark.parametrize(("move", "call"), [(stop, "pause"), (start, "unpause")])
async def test_two_racing_calls_have_one_winner(world: World, move: Move, call: str) -> None:
    instance = await (world.created() if move is stop else world.stopped())
    outcomes = await asyncio.gather(
        *(move(world, instance) for _ in range(5)), return_exceptions=True
    )
    losers = [each for each in outcomes if isinstance(each, InstanceStateWrong)]
    assert len(losers) == 4
    assert world.engine.made(call) == 1


async def test_a_stop_and_a_start_that_race_leave_row_and_sandbox_agreed(world: World) -> None:
    instance = await world.created()
    await asyncio.gather(
        *(move(world, instance) for move in (stop, start, stop, start)), return_exceptions=True
    )
    expected = {RUNNING: SandboxState.RUNNING, STOPPED: SandboxState.PAUSED}
    status = (await world.now(instance)).status
    assert world.engine.state(instance.sandbox_id) is expected[status]


@pytest.mark.parametrize("call", ["inspect", "pause"])
async def test_an_engine_that_fails_a_stop_leaves_the_instance_running_and_taking_turns(
    world: World, call: str
) -> None:
    instance = await world.created()
    world.engine.failing[call] = DOWN
    with pytest.raises(EngineUnavailable):
        await stop(world, instance)
    assert await world.now(instance) == instance
    assert not world.gateway.is_suspended
    world.engine.failing.clear()
    assert (await stop(world, instance)).status is STOPPED


async def test_a_stop_that_failed_for_good_says_so_even_if_nothing_can_be_resumed(
    world: World,
) -> None:
    instance = await world.created()
    world.engine.failing["pause"] = DOWN
    world.gateway.rpc_answers["gateway.suspend.resume"] = refused("no")
    with pytest.raises(EngineUnavailable):
        await stop(world, instance)
    assert (await world.now(instance)).status is RUNNING


@pytest.mark.parametrize("call", ["inspect", "unpause"])
async def test_an_engine_that_fails_a_start_leaves_the_instance_stopped_to_be_started_later(
    world: World, call: str
) -> None:
    instance = await world.stopped()
    world.engine.failing[call] = DOWN
    with pytest.raises(EngineUnavailable):
        await start(world, instance)
    assert await world.now(instance) == instance
    world.engine.failing.clear()
    assert (await start(world, instance)).status is RUNNING


@pytest.mark.parametrize("failure", [DOWN, ImageMissing("chowder-local/sandbox:1")])
async def test_a_start_whose_engine_cannot_boot_leaves_the_instance_stopped(
    world: World, failure: ChowderError
) -> None:
    instance = await world.stopped()
    world.engine.put(instance.sandbox_id, SandboxState.MISSING)
    world.engine.failing["boot"] = failure
    with pytest.raises(type(failure)):
        await start(world, instance)
    assert (await world.now(instance)).status is STOPPED


async def test_a_start_whose_boot_fails_leaves_an_error_with_its_words(world: World) -> None:
    instance = await world.stopped()
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    world.engine.booted = world.engine.found[instance.sandbox_id]
    world.engine.log = "Gateway failed to start"
    with pytest.raises(BootFailed):
        await start(world, instance)
    failed = await world.now(instance)
    assert failed.status is ERROR
    assert failed.error_message is not None
    assert "Gateway failed to start" in failed.error_message


async def test_a_start_on_a_full_disk_leaves_the_instance_stopped(world: World) -> None:
    instance = await world.stopped()
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    world.engine.booted = world.engine.found[instance.sandbox_id]
    world.engine.log = "write failed: no space left on device"
    with pytest.raises(DiskFull, match="docker system df"):
        await start(world, instance)
    assert (await world.now(instance)).status is STOPPED


async def test_a_start_without_a_volume_leaves_an_error_and_makes_no_empty_agent(
    world: World,
) -> None:
    instance = await world.stopped()
    world.engine.found.clear()
    world.engine.having_volumes.clear()
    with pytest.raises(SandboxMissing):
        await start(world, instance)
    assert (await world.now(instance)).status is ERROR
    assert world.engine.made("boot") == 1


async def test_a_gateway_that_will_not_resume_is_booted_anew(world: World) -> None:
    instance = await world.stopped()
    world.gateway.rpc_answers["gateway.suspend.resume"] = refused("broken")
    provisioner = world.engine.made("boot")
    started = await start(world, instance)
    assert started.status is RUNNING
    assert world.engine.made("boot") == provisioner + 1


async def test_a_status_that_changes_behind_a_stops_back_is_not_overwritten(world: World) -> None:
    instance = await world.created()
    hold = world.engine.holds["pause"] = Hold()
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(_outcome(stop(world, instance)))
        await hold.has_begun.wait()
        # The store is told by something that holds no lock.
        await world.instances.change(instance.id, now=world.clock.now, status=ERROR)
        hold.may_end.set()
    assert isinstance(stopping.result(), InstanceStateWrong)
    assert (await world.now(instance)).status is ERROR


# Deleting


async def test_an_instance_can_be_deleted_in_any_state(world: World) -> None:
    left = {}
    for number, (status, state) in enumerate(product(InstanceStatus, SandboxState)):
        instance = await world.placed(status, number)
        world.engine.put(instance.sandbox_id, state)
        await delete(world, instance)
        deleted = await world.now(instance)
        got = (deleted.status, deleted.gateway_url, world.engine.found, world.engine.having_volumes)
        if got != (TERMINATED, None, {}, set()):
            left[status, state] = got
    assert not left


async def test_a_deleted_instances_script_of_replies_is_forgotten(world: World) -> None:
    instance = await world.created()
    world.scripts.put(instance.id, ReplyScript())
    await world.lifecycle.delete(world.organization_id, instance.id)
    assert world.scripts.of(instance.id) is None


async def test_deleting_during_provisioning_leaves_nothing(world: World) -> None:
    hold = world.engine.holds["boot"] = Hold()
    instance = await world.creation.create(world.organization_id, InstanceDraft(name="Ada"))
    await hold.has_begun.wait()
    await delete(world, instance)
    assert not world.provisioner.is_in_progress(instance.id)
    assert (await world.now(instance)).status is TERMINATED
    assert world.engine.found == {}
    assert world.engine.having_volumes == set()


async def test_deleting_while_a_boot_waits_for_its_turn_leaves_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path, boot_concurrency=1) as world:
        hold = world.engine.holds["boot"] = Hold()
        drafts = [InstanceDraft(name="one"), InstanceDraft(name="two")]
        one, two = [await world.creation.create(world.organization_id, each) for each in drafts]
        await hold.has_begun.wait()
        await delete(world, two)
        hold.may_end.set()
        assert (await world.settled(one)).status is RUNNING
        assert set(world.engine.found) == {one.sandbox_id}


async def test_a_sandbox_that_cannot_be_removed_now_is_removed_by_the_reconciler(
    world: World,
) -> None:
    instance = await world.created()
    # What an engine refuses is for a person to know; that it does not answer is not.
    world.engine.failing["remove"] = EngineUnavailable("The volume is in use.")
    with pytest.raises(EngineUnavailable, match="in use"):
        await delete(world, instance)
    assert (await world.now(instance)).status is TERMINATED
    world.engine.failing.clear()
    await world.reconciler.agree()
    assert world.engine.found == {}
    assert world.engine.having_volumes == set()


async def test_a_delete_while_the_engine_is_away_is_done_by_the_reconciler_when_it_is_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    instance = await world.created()
    world.engine.failing |= dict.fromkeys(("remove", "sandboxes"), EngineSilent("On holiday."))
    await delete(world, instance)
    assert (await world.now(instance)).status is TERMINATED
    assert "deleted, but its sandbox not yet: On holiday." in caplog.text
    with pytest.raises(EngineSilent):
        await world.reconciler.agree()
    # Nor does the agent, which may still run, get a model any more.
    model_keys = ModelKeys(world.organizations, {}, world.organization_id)
    lending = ModelCredentials(world.box, world.instances, world.warm_queries, model_keys)
    with pytest.raises(RelayTokenInvalid):
        await lending.resolve(world.box.relay_token(instance.sandbox_id), ModelProvider.OPENAI)
    world.engine.failing.clear()
    await world.reconciler.agree()
    assert world.engine.found == {}
    assert world.engine.having_volumes == set()


async def test_a_delete_waits_for_the_stop_that_is_under_way(world: World) -> None:
    instance = await world.created()
    hold = world.engine.holds["pause"] = Hold()
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(stop(world, instance))
        await hold.has_begun.wait()
        deleting = group.create_task(delete(world, instance))
        await asyncio.sleep(0)
        assert not deleting.done()
        hold.may_end.set()
    assert stopping.result().status is STOPPED
    assert (await world.now(instance)).status is TERMINATED


# Changing


async def test_a_name_alone_bothers_no_gateway(world: World) -> None:
    instance = await world.created()
    world.clock.advance(5)
    changed = await change(world, instance, name="Bea")
    assert (changed.name, changed.status) == ("Bea", RUNNING)
    assert changed.updated_at == world.clock.now
    assert world.gateway.rpc_calls == []


@pytest.mark.parametrize("status", [PROVISIONING, STOPPED, ERROR])
async def test_an_instance_can_be_renamed_in_any_state(
    world: World, status: InstanceStatus
) -> None:
    instance = await world.placed(status)
    assert (await change(world, instance, name="Bea")).name == "Bea"


async def test_a_terminated_instance_cannot_be_changed(world: World) -> None:
    instance = await world.placed(TERMINATED)
    with pytest.raises(InstanceStateWrong):
        await change(world, instance, name="Bea")
    assert await world.now(instance) == instance


async def test_a_running_agent_gets_a_change_of_configuration_live(world: World) -> None:
    instance = await world.created(openclaw_config={"a": {"b": 1}})
    changed = await change(world, instance, overrides={"a.c": 2, "x": {"y": None}})
    (patched,) = world.gateway.called("config.patch")
    assert json.loads(patched["raw"]) == {"a": {"c": 2}, "x": {"y": None}}
    assert patched["baseHash"] == "hmac-sha256:v1:abc"
    assert changed.openclaw_config == {"a": {"b": 1}, "a.c": 2, "x": {}}
    assert changed.status is RUNNING


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_a_configuration_that_openclaw_refuses_changes_nothing(
    world: World, is_stopped: bool
) -> None:
    instance = await (world.stopped() if is_stopped else world.created())
    state = world.engine.state(instance.sandbox_id)
    world.gateway.rpc_answers["config.patch"] = refused('invalid config: Unrecognized key: "foo"')
    with pytest.raises(ConfigRefused, match="Unrecognized key"):
        await change(world, instance, name="Bea", overrides={"foo": 1})
    assert await world.now(instance) == instance
    assert world.engine.state(instance.sandbox_id) is state


async def test_a_configuration_of_ours_is_refused_before_the_agent_is_asked(world: World) -> None:
    instance = await world.created()
    with pytest.raises(ConfigRefused, match="belongs to chowder-local"):
        await change(world, instance, overrides={"gateway.port": 1})
    assert world.gateway.rpc_calls == []


async def test_a_configuration_that_somebody_else_changed_meanwhile_is_read_again(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.rpc_answers["config.patch"] = refused("config changed since last load; re-run")
    with pytest.raises(GatewayUnavailable, match="changes faster"):
        await change(world, instance, overrides={"a": 1})
    assert len(world.gateway.called("config.get")) == 5
    assert await world.now(instance) == instance


def probed_since(world: World, count: int) -> bool:
    return world.gateway.probes > count + 1


async def test_a_change_that_restarts_the_agent_is_answered_when_it_takes_turns_again(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.requires_restart = True
    world.gateway.uptime_ms = 3_600_000
    async with asyncio.TaskGroup() as group:
        changing = group.create_task(change(world, instance, overrides={"a": 1}))
        await eventually(lambda: world.gateway.called("config.patch"), "the agent was asked")
        # It does not take turns for a moment before the restart, and then again during it.
        for is_started in (False, True, False):
            world.gateway.is_started = is_started
            probes = world.gateway.probes
            await eventually(partial(probed_since, world, probes), "it was seen")
            assert not changing.done()
        world.gateway.uptime_ms = 0
        world.gateway.is_started = True
    assert changing.result().openclaw_config == {"a": 1}


async def test_a_stopped_agent_is_woken_to_judge_a_configuration_and_paused_again(
    world: World,
) -> None:
    instance = await world.stopped()
    changed = await change(world, instance, overrides={"a": 1})
    assert (changed.status, changed.openclaw_config) == (STOPPED, {"a": 1})
    assert world.engine.state(instance.sandbox_id) is SandboxState.PAUSED
    assert len(world.gateway.called("config.patch")) == 1


@pytest.mark.parametrize("status", [PROVISIONING, ERROR])
async def test_the_configuration_of_an_agent_that_cannot_be_asked_is_not_changed(
    world: World, status: InstanceStatus
) -> None:
    instance = await world.placed(status)
    with pytest.raises(InstanceStateWrong, match="must be running or stopped"):
        await change(world, instance, overrides={"a": 1})
    assert await world.now(instance) == instance


async def test_a_running_instance_without_an_address_cannot_be_asked(world: World) -> None:
    instance = await world.placed(RUNNING, gateway_url=None)
    with pytest.raises(GatewayUnavailable, match="no address"):
        await change(world, instance, overrides={"a": 1})


async def _outcome(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except ChowderError as failure:
        return failure
