"""Sandboxes of deleted and restored agents, which serve again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import (
    AgentClock,
    InstanceStatus,
    ModelProvider,
    SandboxId,
    SandboxState,
)
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.instances.warm_pool import pool, recycling
from chowder_local.instances.warm_pool.pool import USED_KEPT_S
from chowder_local.instances.warm_pool.recycling import patch_to
from tests.scripted.agents import agent_at
from tests.scripted.engine import Hold
from tests.scripted.gateway import ok
from tests.scripted.homes import STATE
from tests.scripted.programs import done
from tests.scripted.serving import eventually
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chowder_local.core.domain import Instance

NOTE = f"{STATE}/workspace/note"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world of one warm sandbox, whose organization reuses sandboxes."""
    async with open_world(tmp_path, warm_pool_size=1, boot_concurrency=1) as world:
        world.programs.answers["sessions.delete"] = done()
        world.engine.furnish = agent_at
        world.gateway.rpc_answers["config.get"] = ok(
            {"sourceConfig": json.loads(world.initial_configs.blank(SandboxId("any")))}
        )
        await world.organizations.set_reuse(world.organization_id, reuses_sandboxes=True)
        yield world


async def full(world: World) -> None:
    while await world.pool.adjust():
        pass


async def used(world: World) -> Instance:
    """An agent of a warm sandbox, in which it has written something."""
    await full(world)
    instance = await world.created()
    (world.engine.home(instance.sandbox_id) / NOTE).write_text("teal")
    return instance


async def delete(world: World, instance: Instance) -> None:
    await world.lifecycle.delete(instance.organization_id, instance.id)


async def blank(world: World, sandbox_id: SandboxId) -> None:
    """Waits until a used sandbox is a warm one again, and its row says so."""
    in_progress = world.pool.recycling.in_progress
    await eventually(lambda: sandbox_id not in in_progress, "nothing is done with it any more")
    assert world.engine.state(sandbox_id) is SandboxState.PAUSED


async def test_the_next_agent_of_the_organization_gets_a_blank_sandbox_without_a_boot(
    world: World,
) -> None:
    former = await used(world)
    await delete(world, former)
    await blank(world, former.sandbox_id)
    assert not (world.engine.home(former.sandbox_id) / NOTE).exists()
    following = await world.created()
    assert following.sandbox_id == former.sandbox_id
    assert following.status is InstanceStatus.RUNNING
    assert world.engine.made("boot") == 1
    assert (await world.now(former)).sandbox_id != former.sandbox_id


async def test_an_agent_may_claim_it_while_it_is_made_blank(world: World) -> None:
    former = await used(world)
    await delete(world, former)
    following = await world.created()
    assert following.sandbox_id == former.sandbox_id
    assert following.status is InstanceStatus.RUNNING
    assert world.engine.made("boot") == 1


async def test_a_seed_of_ids_ends_with_its_agent(world: World) -> None:
    await full(world)
    seeded = await world.created(clock=AgentClock(seed=7))
    await delete(world, seeded)
    await blank(world, seeded.sandbox_id)
    assert world.gateway.clocks[-2:] == ["0 0 7", "0 0 -"]
    moved = await world.created(clock=AgentClock(offset_ms=1000))
    assert moved.sandbox_id == seeded.sandbox_id
    await delete(world, moved)
    assert world.engine.state(moved.sandbox_id) is SandboxState.MISSING


async def create_in_other_organization(world: World) -> Instance:
    other, _ = await world.organizations.signup("other")
    keys = {ModelProvider.ANTHROPIC: "offline"}
    await world.organizations.change(other.organization.id, model_api_keys=keys)
    return await world.settled(await world.creation.create(other.organization.id, name="Theirs"))


async def test_no_other_organization_gets_it(world: World) -> None:
    former = await used(world)
    await delete(world, former)
    await blank(world, former.sandbox_id)
    assert (await create_in_other_organization(world)).sandbox_id != former.sandbox_id


async def test_the_pool_is_filled_for_others_at_once_although_one_is_ready(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = await used(world)
    await delete(world, former)
    await blank(world, former.sandbox_id)
    monkeypatch.setattr(pool, "SETTLE_S", 600.0)
    world.tasks.create_task(world.pool.run())
    await eventually(lambda: world.engine.made("boot") == 2, "another one is made")
    await create_in_other_organization(world)
    await eventually(lambda: world.engine.made("boot") == 3, "it is replaced")


async def test_it_is_destroyed_where_the_organization_has_not_chosen_it(world: World) -> None:
    await world.organizations.set_reuse(world.organization_id, reuses_sandboxes=False)
    former = await used(world)
    await delete(world, former)
    assert world.engine.state(former.sandbox_id) is SandboxState.MISSING


async def test_it_is_destroyed_if_it_cannot_be_made_blank(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    former = await used(world)
    (world.engine.home(former.sandbox_id) / STATE / "extensions").mkdir()
    (world.engine.home(former.sandbox_id) / STATE / "extensions/own.js").write_text("//")
    await delete(world, former)
    await eventually(
        lambda: world.engine.state(former.sandbox_id) is SandboxState.MISSING, "it is destroyed"
    )
    assert "is not used again" in caplog.text
    assert "the state transfer needs a start: it has extensions" in caplog.text


async def test_a_gateway_that_does_not_answer_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = await used(world)
    monkeypatch.setattr(recycling, "TIMEOUT_S", 0.05)
    world.engine.holds["processes"] = Hold()
    await delete(world, former)
    following = await world.created()
    assert following.status is InstanceStatus.RUNNING
    assert world.engine.made("boot") == 2


async def test_an_agent_that_claimed_what_cannot_be_made_blank_is_booted(world: World) -> None:
    former = await used(world)
    world.engine.commands.append("sleep 1000")
    await delete(world, former)
    following = await world.created()
    assert following.status is InstanceStatus.RUNNING
    assert world.engine.made("boot") == 2


async def test_an_agent_that_claimed_what_cannot_be_made_blank_takes_another_one(
    world: World,
) -> None:
    former = await used(world)
    world.engine.commands.append("sleep 1000")
    world.engine.holds["processes"] = looking = Hold()
    await delete(world, former)
    await looking.has_begun.wait()
    following = await world.creation.create(world.organization_id, name="Ada")
    assert following.sandbox_id == former.sandbox_id
    await full(world)
    (other,) = await world.warm_queries.all()
    looking.may_end.set()
    following = await world.settled(following)
    assert (following.status, following.sandbox_id) == (InstanceStatus.RUNNING, other.sandbox_id)
    assert world.engine.made("boot") == 2
    assert world.engine.state(former.sandbox_id) is SandboxState.MISSING


async def test_a_restore_uses_the_agents_own_sandbox_if_none_is_ready(world: World) -> None:
    await world.organizations.set_reuse(world.organization_id, reuses_sandboxes=False)
    instance = await used(world)
    snapshot = await world.snapshots.take(instance, None)
    (world.engine.home(instance.sandbox_id) / NOTE).write_text("blue")
    restored = await world.settled(
        await world.restores.restore(world.organization_id, instance, snapshot.id)
    )
    assert restored.sandbox_id == instance.sandbox_id
    assert restored.status is InstanceStatus.RUNNING
    assert (world.engine.home(instance.sandbox_id) / NOTE).read_text() == "teal"
    assert world.engine.made("boot") == 1


async def test_a_stopped_agents_sandbox_is_destroyed_as_it_is(world: World) -> None:
    deleted, restored = await used(world), await used(world)
    snapshot = await world.snapshots.take(restored, None)
    for each in (deleted, restored):
        await world.lifecycle.stop(world.organization_id, each.id)
    world.engine.calls.clear()
    await delete(world, deleted)
    await world.restores.restore(world.organization_id, await world.now(restored), snapshot.id)
    states = {world.engine.state(each.sandbox_id) for each in (deleted, restored)}
    assert states == {SandboxState.MISSING}
    unpaused = {sandbox_id for call, sandbox_id in world.engine.calls if call == "unpause"}
    assert not unpaused & {each.sandbox_id for each in (deleted, restored)}


async def test_a_reset_leaves_none(world: World) -> None:
    former, other = await used(world), await used(world)
    await delete(world, former)
    await blank(world, former.sandbox_id)
    await world.organization_reset.reset(world.organization_id)
    states = {world.engine.state(each.sandbox_id) for each in (former, other)}
    assert states == {SandboxState.MISSING}


async def test_it_waits_for_some_minutes_beside_those_that_all_may_have(world: World) -> None:
    former = await used(world)
    await delete(world, former)
    await blank(world, former.sandbox_id)
    await full(world)
    assert len(await world.warm_queries.all()) == 2
    world.clock.advance(USED_KEPT_S + 1)
    await full(world)
    assert world.engine.state(former.sandbox_id) is SandboxState.MISSING


def test_a_configuration_that_a_gateway_keeps_in_memory_is_none_to_be_cleared() -> None:
    blank = {"agents": {"defaults": {"model": "m"}}, "gateway": {"auth": {"token": "t"}}}
    hidden = {"gateway": {"auth": {"token": "hidden"}}}
    own = {"agents": {"entries": {"main": {}}, "defaults": {"model": "n"}}, **hidden}
    assert patch_to(own, blank) == {"agents": {"defaults": {"model": "m"}}}
    with pytest.raises(GatewayUnavailable, match="has env of its own"):
        patch_to({**own, "env": {"vars": {"A": "b"}}}, blank)
