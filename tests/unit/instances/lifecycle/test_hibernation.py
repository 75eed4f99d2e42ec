"""Instances that leave memory while they run, and come back when they are used."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.core.errors.sandboxes import BootFailed, EngineUnavailable
from chowder_local.core.events import EventType
from chowder_local.features.breakpoints.model import BreakpointMatch
from chowder_local.features.breakpoints.service import Breakpoints
from chowder_local.openclaw.jobs import PLACEHOLDER
from chowder_local.openclaw.shortcuts import HIBERNATION
from tests.scripted.engine import Hold
from tests.scripted.gateway import ok
from tests.scripted.programs import done
from tests.scripted.shortcuts import make_unfit
from tests.scripted.talking import respond
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from pathlib import Path

    from chowder_local.core.domain import Instance
    from tests.scripted.gateway import RpcAnswer
    from tests.scripted.world import World

RUNNING, STOPPED, ERROR = InstanceStatus.RUNNING, InstanceStatus.STOPPED, InstanceStatus.ERROR
AFTER_S = 7200.0


async def idle(world: World) -> Instance:
    """An instance that was idle for as long as the setting says."""
    instance = await world.created()
    world.clock.advance(AFTER_S)
    return instance


async def hibernated(world: World) -> Instance:
    instance = await idle(world)
    await world.hibernation.hibernate_idle()
    found = await world.now(instance)
    assert found.is_hibernated
    return found


async def test_an_idle_instance_leaves_memory_and_stays_running(world: World) -> None:
    instance = await hibernated(world)
    assert instance.status is RUNNING
    assert instance.gateway_url is None
    assert world.engine.state(instance.sandbox_id) is SandboxState.EXITED
    assert instance.sandbox_id in world.engine.volume_ids
    assert (await world.health.report())["hibernated"] == 1
    # The reconciler leaves it alone.
    await world.reconciler.reconcile()
    assert world.engine.state(instance.sandbox_id) is SandboxState.EXITED


async def test_it_stays_while_it_is_used_or_was_used_a_moment_ago(world: World) -> None:
    instance = await idle(world)
    async with world.residency.using(instance):
        await world.hibernation.hibernate_idle()
        assert not await world.hibernation.hibernate(instance)
    await world.hibernation.hibernate_idle()
    assert not (await world.now(instance)).is_hibernated
    world.clock.advance(AFTER_S)
    await world.hibernation.hibernate_idle()
    assert (await world.now(instance)).is_hibernated


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("config.get", {"sourceConfig": {"channels": {"telegram": {"enabled": True}}}}),
        ("health", {"agents": [{"heartbeat": {"enabled": True}}]}),
        ("cron.list", {"jobs": [{"enabled": True, "schedule": {"kind": "on-exit"}}]}),
        # Due a minute after the hour for which it was idle.
        ("cron.list", {"jobs": [{"enabled": True, "state": {"nextRunAtMs": 1_777_870_981_000}}]}),
    ],
)
async def test_an_agent_with_work_of_its_own_stays_in_memory(
    world: World, method: str, answer: dict[str, Any]
) -> None:
    instance = await idle(world)
    world.gateway.rpc_answers[method] = ok(answer)
    await world.hibernation.hibernate_idle()
    assert not (await world.now(instance)).is_hibernated
    assert not world.gateway.suspended


async def test_an_agent_whose_model_call_is_held_stays_in_memory(world: World) -> None:
    instance = await idle(world)
    world.feature(Breakpoints).put(instance.id, BreakpointMatch(), once=True)
    call = world.call_log.begin(
        instance.organization_id, instance.id, "openai", "responses", b'{"input": "Hi"}'
    )
    held = await world.feature(Breakpoints).hold(call.request, call)
    assert held is not None
    await world.hibernation.hibernate_idle()
    assert not (await world.now(instance)).is_hibernated
    held.end()
    await world.hibernation.hibernate_idle()
    assert (await world.now(instance)).is_hibernated


async def test_openclaws_own_jobs_and_disabled_channels_do_not_keep_an_agent(
    world: World,
) -> None:
    answers: dict[str, RpcAnswer] = {
        "config.get": ok({"sourceConfig": {"channels": {"telegram": {"enabled": False}}}}),
        "cron.list": ok({"jobs": [{"enabled": True, "declarationKey": "memory-core:dreaming"}]}),
    }
    world.gateway.rpc_answers.update(answers)
    await hibernated(world)


async def test_it_leaves_no_job_of_the_servers_own(world: World) -> None:
    jobs = [{"id": "left", **PLACEHOLDER}, {"id": "mine", "name": "clock"}]
    world.gateway.rpc_answers["cron.list"] = ok({"jobs": jobs})
    await hibernated(world)
    assert world.gateway.called("cron.remove") == [{"id": "left"}]


async def test_a_turn_in_progress_or_a_program_of_the_agent_keeps_it(world: World) -> None:
    instance = await idle(world)
    world.gateway.busy_rounds = 1
    await world.hibernation.hibernate_idle()
    world.gateway.busy_rounds = 0
    assert not world.gateway.suspended
    world.engine.commands.append("python3 -m http.server")
    assert not await world.hibernation.hibernate(instance)
    assert not (await world.now(instance)).is_hibernated


async def test_it_stays_if_its_openclaw_tells_its_own_work_in_another_way(world: World) -> None:
    make_unfit(world.engine, HIBERNATION)
    instance = await idle(world)
    await world.hibernation.hibernate_idle()
    assert (await world.now(instance)).is_in_memory


async def test_an_instance_may_be_kept_in_memory(world: World) -> None:
    instance = await hibernated(world)
    kept = await world.lifecycle.allow_hibernation(instance, is_allowed=False)
    assert kept.is_in_memory
    world.clock.advance(AFTER_S)
    await world.hibernation.hibernate_idle()
    assert (await world.now(instance)).is_in_memory


async def test_a_message_brings_it_back_and_waits_for_that(world: World) -> None:
    instance = await hibernated(world)
    assert (await respond(world, instance))["status"] == "completed"
    current = await world.now(instance)
    assert current.gateway_url == world.engine.address(instance.sandbox_id)
    assert world.engine.state(instance.sandbox_id) is SandboxState.RUNNING
    kinds = [each.type for each in world.events.after(0)]
    assert kinds.count(EventType.INSTANCE_HIBERNATED) == 1
    assert kinds.count(EventType.INSTANCE_RESUMED) == 1


async def test_calls_at_the_same_time_bring_it_back_once(world: World) -> None:
    instance = await hibernated(world)
    boots = world.engine.made("boot")
    answers = await asyncio.gather(*(respond(world, instance) for _ in range(3)))
    assert {each["status"] for each in answers} == {"completed"}
    assert world.engine.made("boot") == boots + 1


async def test_it_comes_back_even_if_the_client_does_not_wait(world: World) -> None:
    instance = await hibernated(world)
    world.engine.holds["boot"] = hold = Hold()
    impatient = asyncio.create_task(respond(world, instance))
    await hold.has_begun.wait()
    impatient.cancel()
    await asyncio.wait([impatient])
    boots = world.engine.made("boot")
    hold.may_end.set()
    assert (await respond(world, instance))["status"] == "completed"
    assert world.engine.made("boot") == boots


async def test_a_call_that_comes_during_its_hibernation_gets_it_back(world: World) -> None:
    instance = await idle(world)
    world.engine.holds["release"] = hold = Hold()
    leaving = asyncio.create_task(world.hibernation.hibernate(instance))
    await hold.has_begun.wait()
    # Its row was read before.
    answering = asyncio.create_task(respond(world, instance))
    hold.may_end.set()
    assert await leaving
    assert (await answering)["status"] == "completed"
    assert (await world.now(instance)).is_in_memory


async def test_a_hibernated_instance_is_stopped_started_and_deleted_as_others(
    world: World,
) -> None:
    instance = await hibernated(world)
    boots = world.engine.made("boot")
    stopped = await world.lifecycle.stop(world.organization_id, instance.id)
    assert (stopped.status, world.engine.made("boot")) == (STOPPED, boots)
    assert (await world.lifecycle.start(world.organization_id, instance.id)).is_in_memory
    await hibernated_again(world, instance)
    await world.lifecycle.delete(world.organization_id, instance.id)
    assert instance.sandbox_id not in world.engine.volume_ids


async def hibernated_again(world: World, instance: Instance) -> None:
    world.clock.advance(AFTER_S)
    assert await world.hibernation.hibernate(await world.now(instance))


async def test_a_snapshot_is_taken_without_waking_it(world: World) -> None:
    instance = await hibernated(world)
    await world.snapshots.take(instance)
    assert (await world.now(instance)).is_hibernated


async def test_its_conversations_are_read_on_its_volume_without_waking_it(world: World) -> None:
    instance = await hibernated(world)
    read_before = replace(instance, gateway_url="http://127.0.0.1:9")
    world.beside.answers["list"] = done(sessions=[])
    for each in (instance, read_before):
        assert [found.is_main for found in await world.conversation_reader.sessions(each)] == [True]
    assert (await world.now(instance)).is_hibernated


async def test_it_is_brought_back_to_be_configured_but_not_to_be_renamed(world: World) -> None:
    instance = await hibernated(world)
    of = (world.organization_id, instance.id)
    renamed = await world.reconfiguration.change(*of, name="Bea")
    assert renamed.instance.is_hibernated
    changed = await world.reconfiguration.change(*of, overrides={"a": 1})
    assert changed.instance.is_in_memory


async def test_without_an_engine_it_stays_hibernated_and_a_later_call_succeeds(
    world: World,
) -> None:
    instance = await hibernated(world)
    world.engine.failing["boot"] = EngineUnavailable("The engine is on holiday.")
    with pytest.raises(EngineUnavailable):
        await respond(world, instance)
    assert (await world.now(instance)).is_hibernated
    world.engine.failing.clear()
    assert (await respond(world, instance))["status"] == "completed"


async def test_an_agent_that_cannot_run_again_becomes_an_error(world: World) -> None:
    instance = await hibernated(world)
    world.engine.failing["boot"] = BootFailed("OpenClaw has ended.")
    with pytest.raises(BootFailed):
        await respond(world, instance)
    assert (await world.now(instance)).status is ERROR
    with pytest.raises(InstanceStateWrong):
        await respond(world, await world.now(instance))


async def test_what_a_crash_left_in_memory_is_released(world: World) -> None:
    instance = await hibernated(world)
    world.engine.put(instance.sandbox_id, SandboxState.RUNNING)
    await world.reconciler.reconcile()
    assert world.engine.state(instance.sandbox_id) is SandboxState.EXITED
    assert (await world.now(instance)).is_hibernated


async def test_the_one_that_was_used_the_longest_time_ago_makes_room(tmp_path: Path) -> None:
    async with open_world(tmp_path, max_sandboxes=2) as world:
        first, second = await world.created(), await world.created()
        world.clock.advance(1)
        await respond(world, first)
        world.clock.advance(1)
        assert (await world.created()).status is RUNNING
        assert (await world.now(second)).is_hibernated
        assert (await world.now(first)).is_in_memory


async def test_a_long_idle_instance_makes_room_for_a_warm_sandbox(tmp_path: Path) -> None:
    async with open_world(tmp_path, max_sandboxes=4, warm_pool_size=1) as world:
        made = [await world.created() for _ in range(4)]
        assert not await world.capacity.make_room_for_warm_sandbox(0)
        world.clock.advance(61)
        assert await world.capacity.make_room_for_warm_sandbox(0)
        now = [await world.now(each) for each in made]
        assert sum(each.is_hibernated for each in now) == 1


async def test_a_row_read_before_it_left_is_not_trusted(world: World) -> None:
    instance = await hibernated(world)
    read_before = replace(instance, gateway_url="http://127.0.0.1:9")
    for _ in range(2):
        # The second time it is back already, at another address.
        async with world.residency.using(read_before) as current:
            assert current.gateway_url == world.engine.address(instance.sandbox_id)
