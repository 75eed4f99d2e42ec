"""Making, freezing, claiming and replacing warm sandboxes."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import (
    AGENT_MEMORY_BYTES,
    EngineMemory,
    InstanceStatus,
    ModelProvider,
    SandboxState,
    WarmSandbox,
)
from chowder_local.core.errors.sandboxes import EngineUnavailable, NodeUnreachable
from chowder_local.core.fault_injection import FaultDraft, FaultKind
from chowder_local.instances.warm_pool import pool as pool_module
from chowder_local.instances.warm_pool import sandboxes as warm_sandboxes_module
from chowder_local.openclaw.warmup import TURN_COUNT
from tests.scripted.engine import Hold
from tests.scripted.gateway import failing, friendly, refused
from tests.scripted.programs import done
from tests.scripted.serving import POLL_S, eventually
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from starlette.types import Receive, Send

    from tests.scripted.gateway import ReceivedMessage

NO_PROCESS = EngineUnavailable("no room")
PAUSED, RUNNING = SandboxState.PAUSED, SandboxState.RUNNING


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose warm sandboxes boot one at a time, and run no program for forks.

    That would be a process each.
    """
    async with open_world(tmp_path, warm_pool_size=2, boot_concurrency=1) as world:
        world.programs.answers["sessions.delete"] = done()
        world.processes.failing = NO_PROCESS
        yield world


def two_at_once(world: World) -> World:
    """The same after the first round, with two that boot at once on an idle machine."""
    idle = replace(world, settings=world.settings.model_copy(update={"boot_concurrency": 2}))
    idle.pool._is_new = False
    return idle


async def full(world: World) -> list[WarmSandbox]:
    """The warm sandboxes of a full pool."""
    while await world.pool.adjust():
        pass
    return await world.warm_queries.all()


async def ready(world: World, count: int, made: int) -> None:
    """Waits until `count` of the `made` warm sandboxes are ready."""
    await eventually(lambda: world.engine.made("pause") == made, "they are frozen")
    for _ in range(1000):
        if (await world.health.report())["pool"]["ready"] == count:
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"the pool has not {count} warm sandboxes")


async def test_the_configured_number_of_warm_sandboxes_is_made_and_frozen(world: World) -> None:
    warm_sandboxes = await full(world)
    assert len(warm_sandboxes) == 2
    assert {world.engine.state(each.sandbox_id) for each in warm_sandboxes} == {PAUSED}
    assert sorted(world.engine.warm_sandboxes) == sorted(each.sandbox_id for each in warm_sandboxes)
    assert all(each.gateway_url == world.engine.address(each.sandbox_id) for each in warm_sandboxes)


async def test_a_warm_up_runs_turns_in_a_session_that_is_deleted(world: World) -> None:
    await full(world)
    assert len(world.gateway.messages) == 2 * TURN_COUNT
    keys = {each.headers["x-openclaw-session-key"] for each in world.gateway.messages}
    assert {params["key"] for params in world.programs.called("sessions.delete")} == keys
    # The names are random, so that they do not collide with a user's session.
    assert len(keys) == 2


async def test_the_program_for_forks_runs_until_the_warm_sandbox_leaves_the_pool(
    world: World,
) -> None:
    world.processes.failing = None
    await full(world)
    assert world.processes.running == 2
    await world.created()
    assert world.processes.running == 1
    world.engine.failing["unpause"] = EngineUnavailable("stuck")
    await world.created()
    assert world.processes.running == 0
    warm_sandbox, _ = await full(world)
    assert world.processes.running == 2
    assert await world.warm_sandboxes.discard(warm_sandbox)
    assert world.processes.running == 1


async def test_a_warm_sandbox_without_the_program_for_forks_is_usable(world: World) -> None:
    assert world.processes.failing
    assert len(await full(world)) == 2
    assert (await world.created()).status is InstanceStatus.RUNNING
    assert world.engine.made("boot") == 2


async def test_a_create_claims_a_warm_sandbox_and_nothing_is_booted(world: World) -> None:
    oldest = (await full(world))[0]
    provisioner = world.engine.made("boot")
    instance = await world.created()
    assert instance.status is InstanceStatus.RUNNING
    assert instance.sandbox_id == oldest.sandbox_id
    assert instance.gateway_url == world.engine.address(instance.sandbox_id)
    assert world.engine.state(instance.sandbox_id) is RUNNING
    assert world.engine.made("boot") == provisioner
    assert world.gateway.called("config.patch") == []


async def test_a_claimed_warm_sandbox_is_replaced(world: World) -> None:
    await full(world)
    instance = await world.created()
    warm_sandboxes = await full(world)
    assert len(warm_sandboxes) == 2
    assert instance.sandbox_id not in {each.sandbox_id for each in warm_sandboxes}


async def test_the_pool_is_filled_again_in_the_background(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No other is made until the claimed one is ready.
    monkeypatch.setattr(pool_module, "CHECK_INTERVAL_S", 0.01)
    monkeypatch.setattr(pool_module, "SETTLE_S", 0.01)
    world.tasks.create_task(world.pool.run())
    await ready(world, 2, made=2)
    await world.created()
    await ready(world, 2, made=3)
    assert len(world.engine.warm_sandboxes) == 3


async def test_while_half_is_ready_no_other_is_made_beside_a_new_agents_first_message(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "SETTLE_S", 600.0)
    world.tasks.create_task(world.pool.run())
    await ready(world, 2, made=2)
    world.engine.failing["boot"] = NO_PROCESS
    await world.created()
    for _ in range(3):
        world.demand.changed.set()
        await eventually(lambda: not world.demand.changed.is_set(), "the pool has looked")
    assert world.pool.problem is None
    await world.created()
    await eventually(lambda: world.pool.problem is not None, "one is made at once")


async def test_a_claimed_warm_sandbox_is_configured_by_one_patch(world: World) -> None:
    await full(world)
    provisioner = world.engine.made("boot")
    await world.created(
        model_provider=ModelProvider.OPENAI,
        openclaw_config={"agents.defaults.thinkingDefault": "off"},
    )
    (patched,) = world.gateway.called("config.patch")
    assert json.loads(patched["raw"]) == {
        "agents": {
            "defaults": {"model": {"primary": "chowder-openai/gpt-4o"}, "thinkingDefault": "off"}
        }
    }
    assert world.engine.made("boot") == provisioner


async def test_a_refused_patch_leads_to_a_boot(world: World) -> None:
    await full(world)
    world.gateway.rpc_answers["config.patch"] = refused("invalid config")
    provisioner = world.engine.made("boot")
    instance = await world.created(model_provider=ModelProvider.OPENAI)
    assert instance.status is InstanceStatus.RUNNING
    assert world.engine.made("boot") == provisioner + 1
    config = json.loads(world.engine.files[instance.sandbox_id]["openclaw.json"])
    assert config["agents"]["defaults"]["model"]["primary"] == "chowder-openai/gpt-4o"


async def test_a_warm_sandbox_that_cannot_be_resumed_leads_to_a_boot(
    world: World,
) -> None:
    await full(world)
    world.engine.failing["unpause"] = EngineUnavailable("The engine is on holiday.")
    instance = await world.created()
    assert instance.status is InstanceStatus.RUNNING
    assert world.engine.state(instance.sandbox_id) is RUNNING


async def test_a_claim_waits_until_the_gateway_accepts_turns(world: World) -> None:
    await full(world)
    world.gateway.is_started, probes = False, world.gateway.probes
    instance = await world.creation.create(world.organization_id, name="Ada")
    await eventually(lambda: world.gateway.probes > probes + 1, "it was asked twice")
    world.gateway.is_started = True
    assert (await world.settled(instance)).status is InstanceStatus.RUNNING
    assert world.engine.made("boot") == 2


async def test_a_warm_sandbox_that_never_accepts_turns_leads_to_a_boot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await full(world)
    monkeypatch.setattr(warm_sandboxes_module, "WAKE_TIMEOUT_S", 0.0)
    world.gateway.is_started = False
    instance = await world.creation.create(world.organization_id, name="Ada")
    await eventually(lambda: world.engine.made("boot") == 3, "it is booted")
    world.gateway.is_started = True
    assert (await world.settled(instance)).status is InstanceStatus.RUNNING


async def test_an_instance_without_a_model_key_claims_no_warm_sandbox(world: World) -> None:
    warm_sandboxes = await full(world)
    instance = await world.created(model_provider=ModelProvider.GEMINI)
    assert instance.status is InstanceStatus.ERROR
    assert await world.warm_queries.all() == warm_sandboxes


@contextmanager
def only_this(world: World) -> Iterator[None]:
    """Leaves no memory for other warm sandboxes than those that are being made."""
    usual = world.engine.memory_reading
    world.engine.memory_reading = EngineMemory(5_000_000_000, None)
    yield
    world.engine.memory_reading = usual


@asynccontextmanager
async def booting(world: World) -> AsyncIterator[Hold]:
    """Holds a warm sandbox in its boot; lets it end at the end of the block."""
    hold = world.engine.holds["boot"] = Hold()
    making = asyncio.create_task(world.pool.adjust())
    await hold.has_begun.wait()
    del world.engine.holds["boot"]
    with only_this(world):
        yield hold
        hold.may_end.set()
        await making


async def test_without_a_ready_one_an_instance_claims_the_booting_one(world: World) -> None:
    async with booting(world) as hold:
        (offered,) = await world.warm_queries.all()
        fields = {"name": "Ada", "model_provider": ModelProvider.OPENAI}
        instance = await world.creation.create(world.organization_id, **fields)
        assert instance.sandbox_id == offered.sandbox_id
        assert (await world.now(instance)).status is InstanceStatus.PROVISIONING
        # A second instance gets a boot of its own.
        assert (await world.created()).sandbox_id != offered.sandbox_id
        hold.may_end.set()
        instance = await world.settled(instance)
    assert instance.status is InstanceStatus.RUNNING
    assert instance.gateway_url == world.engine.address(instance.sandbox_id)
    assert world.engine.state(instance.sandbox_id) is RUNNING
    assert world.engine.made("boot") == 2
    assert world.engine.calls.count(("promote", instance.sandbox_id)) == 1
    # Nothing warms it up: the turns would use the organization's model key.
    assert world.gateway.messages == []
    # Once, to read the home of a sandbox that nobody has used.
    assert world.engine.made("pause") == 1
    assert len(world.gateway.called("config.patch")) == 1
    assert len(await full(world)) == 2


async def test_an_idle_machine_boots_several_at_once_and_each_can_be_claimed(world: World) -> None:
    idle = two_at_once(world)
    hold = world.engine.holds["boot"] = Hold()
    making = asyncio.create_task(idle.pool.adjust())
    await eventually(lambda: world.engine.made("boot") == 2, "both boot")
    warm_ids = {each.sandbox_id for each in await world.warm_queries.all()}
    with only_this(world):
        creating = idle.creation.create
        instances = [await creating(world.organization_id, name="Ada") for _ in range(3)]
        assert {each.sandbox_id for each in instances[:2]} == warm_ids
        assert instances[2].sandbox_id not in warm_ids
        hold.may_end.set()
        assert await making
        for each in instances:
            assert (await idle.settled(each)).status is InstanceStatus.RUNNING
        assert world.engine.made("boot") == 3


@asynccontextmanager
async def first_boot(world: World) -> AsyncIterator[asyncio.Task[bool]]:
    """Fills the pool, and holds its boots once it has begun as many as it will."""
    hold = world.engine.holds["boot"] = Hold()
    filling = asyncio.create_task(world.pool.adjust())
    await hold.has_begun.wait()
    await looked(world)
    yield filling
    hold.may_end.set()
    await filling


async def looked(world: World) -> None:
    """Returns once the pool has looked again, and once more, whether one is missing."""
    for _ in range(2):
        world.demand.changed.set()
        await eventually(lambda: not world.demand.changed.is_set(), "the pool has looked")


async def is_busy() -> bool:
    return False


async def test_a_new_server_boots_one_first_which_its_first_instance_claims(world: World) -> None:
    looks: list[str] = []

    async def is_idle() -> bool:
        looks.append("at the processor")
        return True

    settings = world.settings.model_copy(update={"boot_concurrency": 2})
    new = replace(world, settings=settings, is_idle=is_idle)
    hold = world.engine.holds["boot"] = Hold()
    making = asyncio.create_task(new.pool.adjust())
    await asyncio.wait_for(hold.has_begun.wait(), 10)
    assert looks == []
    with only_this(world):
        instance = await new.creation.create(world.organization_id, name="Ada")
        hold.may_end.set()
        await making
        assert (await new.settled(instance)).status is InstanceStatus.RUNNING
        assert world.engine.made("boot") == 1


async def test_a_busy_machine_boots_one_at_a_time(world: World) -> None:
    busy = replace(two_at_once(world), is_idle=is_busy)
    async with first_boot(busy):
        assert world.engine.made("boot") == 1
    assert len(await world.warm_queries.all()) == 2


async def test_a_busy_machine_boots_the_next_one_beside_one_that_an_instance_waits_for(
    world: World,
) -> None:
    busy = replace(two_at_once(world), is_idle=is_busy)
    async with first_boot(busy):
        ada = await busy.creation.create(world.organization_id, name="Ada")
        await eventually(lambda: world.engine.made("boot") == 2, "another boots")
        # No third one, although another instance waits for the second.
        grace = await busy.creation.create(world.organization_id, name="Grace")
        await looked(busy)
        assert world.engine.made("boot") == 2
    for each in (ada, grace):
        assert (await busy.settled(each)).status is InstanceStatus.RUNNING


async def test_an_engine_that_goes_away_for_a_moment_ends_no_boot(world: World) -> None:
    busy = replace(two_at_once(world), is_idle=is_busy)
    hold = world.engine.holds["boot"] = Hold()
    filling = asyncio.create_task(busy.pool.adjust())
    await hold.has_begun.wait()
    world.engine.failing["memory"] = EngineUnavailable("The engine is on holiday.")
    await busy.creation.create(world.organization_id, name="Ada")
    await looked(busy)
    hold.may_end.set()
    with pytest.raises(EngineUnavailable, match="on holiday"):
        await filling
    assert world.engine.made("boot") == 1


async def test_no_more_boot_at_once_than_there_is_memory_for(world: World) -> None:
    world.engine.memory_reading = EngineMemory(64_000_000_000, 3 * AGENT_MEMORY_BYTES - 1)
    async with first_boot(two_at_once(world)):
        assert world.engine.made("boot") == 1


async def test_a_failure_of_one_of_two_that_boot_at_once_keeps_the_other(world: World) -> None:
    async def fails_once(asked: ReceivedMessage, receive: Receive, send: Send) -> None:
        world.gateway.handler = None
        await failing(500, {"error": {"message": "no"}})(asked, receive, send)

    world.gateway.handler = fails_once
    idle = two_at_once(world)
    assert not await idle.pool.adjust()
    (kept,) = [each for each in await world.warm_queries.all() if each.gateway_url is not None]
    assert kept in await full(idle)


async def test_without_a_ready_one_an_instance_waits_for_the_rest_of_a_warm_up(
    world: World,
) -> None:
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(asked: ReceivedMessage, receive: Receive, send: Send) -> None:
        is_asked.set()
        await may_answer.wait()
        await friendly(asked, receive, send)

    world.gateway.handler = slow
    making = asyncio.create_task(world.pool.adjust())
    await is_asked.wait()
    (warming,) = await world.warm_queries.all()
    with only_this(world):
        instance = await world.creation.create(world.organization_id, name="Ada")
        assert instance.sandbox_id == warming.sandbox_id
        promoted = ("promote", warming.sandbox_id)
        await eventually(lambda: promoted in world.engine.calls, "it is as urgent as a boot")
        assert (await world.now(instance)).status is InstanceStatus.PROVISIONING
        assert world.warm_queries.is_warming(instance.sandbox_id)
        may_answer.set()
        assert (await world.settled(instance)).status is InstanceStatus.RUNNING
        assert not world.warm_queries.is_warming(instance.sandbox_id)
        await making
    # Whole: no text of the warm-up is left in the agent's home.
    assert len(world.programs.called("sessions.delete")) == 1
    assert world.engine.calls.count(promoted) == 1
    assert world.engine.made("boot") == 1


async def test_a_sandbox_whose_warm_up_fails_after_the_claim_is_booted_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    is_asked, may_fail = asyncio.Event(), asyncio.Event()

    async def fails(asked: ReceivedMessage, receive: Receive, send: Send) -> None:
        is_asked.set()
        await may_fail.wait()
        await failing(500, {"error": {"message": "no"}})(asked, receive, send)

    world.gateway.handler = fails
    making = asyncio.create_task(world.pool.adjust())
    await is_asked.wait()
    with only_this(world):
        instance = await world.creation.create(world.organization_id, name="Ada")
        may_fail.set()
        instance = await world.settled(instance)
        await making
    assert instance.status is InstanceStatus.RUNNING
    assert world.engine.made("boot") == 2
    assert "claimed, but not made: Gateway unavailable" in caplog.text


async def test_a_sandbox_whose_boot_fails_after_the_claim_is_booted_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with booting(world) as hold:
        (offered,) = await world.warm_queries.all()
        instance = await world.creation.create(world.organization_id, name="Ada")
        world.engine.put(offered.sandbox_id, SandboxState.EXITED)
        hold.may_end.set()
        instance = await world.settled(instance)
    assert instance.status is InstanceStatus.RUNNING
    assert instance.sandbox_id == offered.sandbox_id
    assert world.engine.made("boot") == 2
    # The pool does not count it as its failure.
    assert world.pool.problem is None
    assert "claimed, but not made: The sandbox ended with exit code" in caplog.text


async def test_deleting_the_claimer_of_a_booting_sandbox_leaves_nothing(world: World) -> None:
    async with booting(world):
        instance = await world.creation.create(world.organization_id, name="Ada")
        await world.lifecycle.delete(world.organization_id, instance.id)
    assert world.engine.containers == {}
    assert world.pool.problem is None
    assert len(await full(world)) == 2


async def test_deleting_the_claimer_before_its_sandbox_is_resumed_leaves_nothing(
    world: World,
) -> None:
    world.processes.failing = None
    await full(world)
    world.faults.add(world.organization_id, FaultDraft(FaultKind.PROVISIONING, delay_s=600.0))
    slow = await world.creation.create(world.organization_id, name="Ada")
    await world.lifecycle.delete(world.organization_id, slow.id)
    # The other warm sandbox is left.
    assert world.processes.running == 1


async def test_a_failed_boot_without_a_claim_is_the_problem_of_the_pool(world: World) -> None:
    async with booting(world):
        (offered,) = await world.warm_queries.all()
        world.engine.put(offered.sandbox_id, SandboxState.EXITED)
    assert "ended with exit code" in (world.pool.problem or "")
    assert len(await full(world)) == 2


@pytest.mark.parametrize("state", [SandboxState.EXITED, SandboxState.MISSING])
async def test_a_dead_warm_sandbox_is_replaced(world: World, state: SandboxState) -> None:
    dead, living = await full(world)
    world.engine.put(dead.sandbox_id, state)
    warm_sandboxes = await full(world)
    assert len(warm_sandboxes) == 2
    assert living in warm_sandboxes
    assert dead.sandbox_id not in world.engine.containers


async def test_a_restart_of_server_and_engine_leaves_as_many_as_there_were(world: World) -> None:
    settings = world.settings.model_copy(update={"warm_pool_max": 6})
    before, after = replace(world, settings=settings), replace(world, settings=settings)
    before.demand.add(4)
    for each in await full(before):
        world.engine.put(each.sandbox_id, SandboxState.EXITED)
    assert len(await full(after)) == 4


@pytest.mark.parametrize("what", ["image", "crash"])
async def test_warm_sandboxes_with_another_fingerprint_or_no_address_are_replaced(
    world: World, what: str
) -> None:
    old = await full(world)
    if what == "image":
        world.engine.fingerprint = "another"
    else:
        for each in old:
            await world.warm_queries.drop(each.sandbox_id)
            await world.warm_queries.add(replace(each, gateway_url=None))
    new = await full(world)
    assert len(new) == 2
    assert not {each.sandbox_id for each in old} & {each.sandbox_id for each in new}
    assert world.engine.containers.keys() == {each.sandbox_id for each in new}


async def test_a_warm_sandbox_with_another_fingerprint_is_not_claimed(world: World) -> None:
    old = await full(world)
    world.engine.fingerprint = "another"
    instance = await world.created()
    assert instance.sandbox_id not in {each.sandbox_id for each in old}


async def test_the_reconciler_keeps_warm_sandboxes(world: World) -> None:
    warm_sandboxes = await full(world)
    await world.reconciler.reconcile()
    assert world.engine.containers.keys() == {each.sandbox_id for each in warm_sandboxes}


async def test_a_failure_to_make_a_warm_sandbox_is_reported_and_retried(world: World) -> None:
    world.gateway.handler = failing(500, {"error": {"message": "no"}})
    assert not await world.pool.adjust()
    problem = (await world.health.report())["pool"]["error"]
    assert problem == "Gateway unavailable – the warm-up was not answered"
    world.gateway.handler = None
    assert len(await full(world)) == 2
    assert (await world.health.report())["pool"]["error"] is None
    assert len(world.engine.containers) == 2


async def test_a_warm_sandbox_that_its_engine_ends_is_no_failure_of_the_pool(world: World) -> None:
    ended = replace(world.engine.booted, state=SandboxState.EXITED, is_signalled=True)
    world.engine.booted = ended
    assert not await world.pool.adjust()
    assert world.pool.problem is None


async def test_the_loop_survives_failures(world: World) -> None:
    world.engine.failing["memory"] = EngineUnavailable("The engine is on holiday.")
    world.tasks.create_task(world.pool.run())
    await eventually(lambda: world.engine.made("memory") > 0, "a look was taken")
    del world.engine.failing["memory"]
    world.demand.changed.set()
    await eventually(lambda: len(world.engine.warm_sandboxes) == 2, "warm sandboxes are made")


async def test_what_was_lost_with_the_engine_is_made_as_soon_as_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "CHECK_INTERVAL_S", 600.0)
    monkeypatch.setattr(pool_module, "ENGINE_RETRY_S", 0.001)
    hold = world.engine.holds["boot"] = Hold()
    world.tasks.create_task(world.pool.run())
    await hold.has_begun.wait()
    for each in list(world.engine.containers):
        world.engine.put(each, SandboxState.MISSING)
    world.engine.failing["version"] = NO_PROCESS
    hold.may_end.set()
    looks = world.engine.made("version")
    await eventually(lambda: world.engine.made("version") > looks + 2, "it looks again")
    assert world.pool.problem is None
    assert world.engine.made("boot") == 1
    del world.engine.failing["version"]
    await ready(world, 2, made=2)


@pytest.mark.parametrize("problem", [EngineUnavailable("No."), RuntimeError("a defect")])
async def test_a_failure_with_one_warm_sandbox_does_not_affect_others(
    world: World, problem: Exception
) -> None:
    bad, dead = await full(world)
    world.engine.put(dead.sandbox_id, SandboxState.EXITED)
    world.engine.failing[f"inspect {bad.sandbox_id}"] = problem
    await full(world)
    ids = [each.sandbox_id for each in await world.warm_queries.all()]
    assert bad.sandbox_id in ids
    assert dead.sandbox_id not in ids
    assert len(ids) == 1 + 2


async def test_a_warm_sandbox_on_a_machine_that_is_away_is_replaced(world: World) -> None:
    away, living = await full(world)
    world.engine.failing[f"inspect {away.sandbox_id}"] = NodeUnreachable("host-1")
    ids = [each.sandbox_id for each in await full(world)]
    assert len(ids) == 2
    assert living.sandbox_id in ids
    assert away.sandbox_id not in ids


async def test_no_warm_sandbox_is_made_while_as_many_instances_boot_as_may(world: World) -> None:
    world.gateway.is_started = False
    await world.creation.create(world.organization_id, name="Ada")
    assert not await world.pool.adjust()
    assert world.engine.warm_sandboxes == []
    assert (
        await replace(two_at_once(world), is_idle=is_busy).pool._wanted(0, (), is_first=False) == 1
    )
    world.gateway.is_started = True


async def test_surplus_warm_sandboxes_are_discarded(world: World) -> None:
    oldest, _ = await full(world)
    with_one = replace(world, settings=world.settings.model_copy(update={"warm_pool_size": 1}))
    small = replace(with_one, settings=with_one.settings.model_copy(update={"warm_pool_max": 0}))
    assert not await small.pool.adjust()
    assert [each.sandbox_id for each in await world.warm_queries.all()] == [oldest.sandbox_id]
    assert len(world.engine.containers) == 1


@pytest.mark.parametrize(
    ("total", "available"),
    [(5_000_000_000, None), (64_000_000_000, 2_000_000_000)],
    ids=["small machine", "busy machine"],
)
async def test_no_warm_sandbox_is_made_if_memory_is_scarce(
    world: World, total: int, available: int | None
) -> None:
    world.engine.memory_reading = EngineMemory(total, available)
    assert await full(world) == []


async def test_a_claim_during_a_check_wins(world: World) -> None:
    warm_sandbox = (await full(world))[0]
    await world.warm_queries.drop(warm_sandbox.sandbox_id)
    assert not await world.warm_sandboxes.discard(warm_sandbox)
    assert world.engine.state(warm_sandbox.sandbox_id) is PAUSED
