"""Stopping, starting and deleting instances: allowed states, races and failures."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.accounts.credentials import ModelCredentials
from chowder_local.accounts.organizations import ModelKeys
from chowder_local.core.domain import InstanceStatus, ModelProvider, SandboxState
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.core.errors.sandboxes import EngineSilent, EngineUnavailable
from chowder_local.core.errors.upstream import RelayTokenInvalid
from chowder_local.relay.scripts.rules import ReplyScript
from tests.scripted.engine import Hold
from tests.scripted.operations import delete, start, stop
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from tests.scripted.operations import Operation

PROVISIONING, RUNNING, STOPPED, ERROR, TERMINATED = InstanceStatus


@pytest.mark.parametrize(("operation", "call"), [(stop, "pause"), (start, "unpause")])
async def test_of_calls_that_race_exactly_one_succeeds(
    world: World, operation: Operation, call: str
) -> None:
    instance = await (world.created() if operation is stop else world.stopped())
    outcomes = await asyncio.gather(
        *(operation(world, instance) for _ in range(5)), return_exceptions=True
    )
    losers = [each for each in outcomes if isinstance(each, InstanceStateWrong)]
    assert len(losers) == 4
    assert world.engine.made(call) == 1


async def test_after_a_race_of_stops_and_starts_row_and_sandbox_agree(world: World) -> None:
    instance = await world.created()
    await asyncio.gather(
        *(move(world, instance) for move in (stop, start, stop, start)), return_exceptions=True
    )
    expected = {RUNNING: SandboxState.RUNNING, STOPPED: SandboxState.PAUSED}
    status = (await world.now(instance)).status
    assert world.engine.state(instance.sandbox_id) is expected[status]


async def test_a_stop_does_not_overwrite_a_status_that_has_changed_meanwhile(world: World) -> None:
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


async def test_an_instance_can_be_deleted_in_any_state(world: World) -> None:
    left = {}
    for number, (status, state) in enumerate(product(InstanceStatus, SandboxState)):
        instance = await world.placed(status, number)
        world.engine.put(instance.sandbox_id, state)
        await delete(world, instance)
        deleted = await world.now(instance)
        got = (
            deleted.status,
            deleted.gateway_url,
            world.engine.containers,
            world.engine.volume_ids,
        )
        if got != (TERMINATED, None, {}, set()):
            left[status, state] = got
    assert not left


async def test_a_delete_removes_the_reply_script(world: World) -> None:
    instance = await world.created()
    world.scripts.put(instance.id, ReplyScript())
    await world.lifecycle.delete(world.organization_id, instance.id)
    assert world.scripts.get(instance.id) is None


async def test_deleting_during_provisioning_leaves_nothing(world: World) -> None:
    hold = world.engine.holds["boot"] = Hold()
    instance = await world.creation.create(world.organization_id, name="Ada")
    await hold.has_begun.wait()
    await delete(world, instance)
    assert not world.provisioner.is_in_progress(instance.id)
    assert (await world.now(instance)).status is TERMINATED
    assert world.engine.containers == {}
    assert world.engine.volume_ids == set()


async def test_deleting_while_a_boot_is_queued_leaves_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path, boot_concurrency=1) as world:
        hold = world.engine.holds["boot"] = Hold()
        one, two = [
            await world.creation.create(world.organization_id, name=each) for each in ("one", "two")
        ]
        await hold.has_begun.wait()
        await delete(world, two)
        hold.may_end.set()
        assert (await world.settled(one)).status is RUNNING
        assert set(world.engine.containers) == {one.sandbox_id}


async def test_a_sandbox_that_the_engine_refuses_to_remove_is_removed_by_the_reconciler(
    world: World,
) -> None:
    instance = await world.created()
    # What an engine refuses is for a person to know; that it does not answer is not.
    world.engine.failing["remove"] = EngineUnavailable("The volume is in use.")
    with pytest.raises(EngineUnavailable, match="in use"):
        await delete(world, instance)
    assert (await world.now(instance)).status is TERMINATED
    world.engine.failing.clear()
    await world.reconciler.reconcile()
    assert world.engine.containers == {}
    assert world.engine.volume_ids == set()


async def test_a_delete_while_the_engine_is_down_is_completed_by_the_reconciler(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    instance = await world.created()
    world.engine.failing |= dict.fromkeys(("remove", "sandboxes"), EngineSilent("On holiday."))
    await delete(world, instance)
    assert (await world.now(instance)).status is TERMINATED
    assert "deleted, but its sandbox not yet: On holiday." in caplog.text
    with pytest.raises(EngineSilent):
        await world.reconciler.reconcile()
    # Nor does the agent, which may still run, get a model any more.
    model_keys = ModelKeys(world.organizations, {}, world.organization_id)
    lending = ModelCredentials(world.secret_box, world.instances, world.warm_queries, model_keys)
    with pytest.raises(RelayTokenInvalid):
        await lending.resolve(
            world.secret_box.relay_token(instance.sandbox_id), ModelProvider.OPENAI
        )
    world.engine.failing.clear()
    await world.reconciler.reconcile()
    assert world.engine.containers == {}
    assert world.engine.volume_ids == set()


async def test_a_delete_waits_for_a_stop_in_progress(world: World) -> None:
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


async def _outcome(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except ChowderError as failure:
        return failure
