"""Who reaches the outside: what is chosen, what it takes, and that nothing else lets one out."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import Egress, InstanceId, InstanceStatus, SandboxState
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.core.errors.sandboxes import EgressUnavailable
from chowder_local.instances.lifecycle.creation import InstanceDraft
from chowder_local.instances.lifecycle.egress import EgressRule
from chowder_local.instances.lifecycle.healing import DEATHS_ALLOWED
from tests.scripted.engine import Hold
from tests.scripted.programs import done
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chowder_local.core.domain import Instance

ON, OFF = Egress.ON, Egress.OFF


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[World]:
    """A server whose own setting is `off`, and which keeps a warm sandbox."""
    folder = tmp_path / "closed"
    folder.mkdir()
    async with open_world(folder, egress=EgressRule(OFF), warm_pool_size=1) as world:
        world.programs.answers["sessions.delete"] = done()
        yield world


def found(world: World, instance: Instance) -> Egress:
    """What the instance's sandbox was made with."""
    return world.engine.found[instance.sandbox_id].egress


async def test_an_instance_follows_the_servers_setting_until_one_is_chosen(
    world: World, closed: World
) -> None:
    assert found(world, await world.created()) is ON
    assert found(closed, await closed.created()) is OFF


@pytest.mark.parametrize("chosen", [ON, OFF])
async def test_what_is_chosen_for_an_instance_wins(world: World, chosen: Egress) -> None:
    rule = EgressRule(OFF if chosen is ON else ON)
    instance = await world.placed(InstanceStatus.RUNNING)
    assert rule.effective(replace(instance, egress=chosen)) is chosen
    assert rule.effective(instance) is rule.default


async def test_a_running_ones_sandbox_is_made_anew_on_its_volume(world: World) -> None:
    instance = await world.created()
    provisioner, removals = world.engine.made("boot"), world.engine.made("remove")
    changed = await world.egress.change(instance, OFF)
    assert (changed.status, changed.egress) == (InstanceStatus.PROVISIONING, OFF)
    assert changed.gateway_url is None
    settled = await world.settled(instance)
    assert (settled.status, settled.egress) == (InstanceStatus.RUNNING, OFF)
    assert found(world, instance) is OFF
    # Its volume was not: that would be a removal.
    assert (world.engine.made("boot"), world.engine.made("remove")) == (provisioner + 1, removals)
    # Its turn was let end first.
    assert "gateway.suspend.prepare" in [method for method, _ in world.gateway.rpc_calls]


async def test_choosing_what_is_in_force_already_disturbs_nothing(world: World) -> None:
    instance = await world.created()
    provisioner = world.engine.made("boot")
    changed = await world.egress.change(instance, ON)
    assert (changed.status, changed.egress) == (InstanceStatus.RUNNING, ON)
    assert (await world.egress.change(instance, None)).egress is None
    assert world.engine.made("boot") == provisioner


async def test_a_stopped_one_is_made_anew_when_it_is_started(world: World) -> None:
    instance = await world.stopped()
    changed = await world.egress.change(instance, OFF)
    assert changed.status is InstanceStatus.STOPPED
    assert world.engine.state(instance.sandbox_id) is SandboxState.PAUSED
    unpaused = world.engine.made("unpause")
    await world.lifecycle.start(world.organization_id, instance.id)
    assert found(world, instance) is OFF
    # Not for a moment did it go on where it was.
    assert world.engine.made("unpause") == unpaused


async def test_one_on_its_way_is_booted_as_it_was_chosen_meanwhile(world: World) -> None:
    hold = world.engine.holds["boot"] = Hold()
    instance = await world.creation.create(world.organization_id, InstanceDraft("Ada"))
    await hold.has_begun.wait()
    del world.engine.holds["boot"]
    changed = await world.egress.change(instance, OFF)
    assert changed.status is InstanceStatus.PROVISIONING
    assert (await world.settled(instance)).status is InstanceStatus.RUNNING
    assert found(world, instance) is OFF


@pytest.mark.parametrize("status", [InstanceStatus.ERROR, InstanceStatus.TERMINATED])
async def test_what_has_no_sandbox_to_speak_of_has_nothing_to_choose(
    world: World, status: InstanceStatus
) -> None:
    instance = await world.placed(status)
    with pytest.raises(InstanceStateWrong):
        await world.egress.change(instance, OFF)
    with pytest.raises(InstanceNotFound):
        await world.egress.change(replace(instance, id=InstanceId("none")), OFF)


async def test_where_the_engine_cannot_keep_one_in_it_is_told_and_nothing_changes(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path, egress=EgressRule(problem="it is a ship.")) as world:
        instance = await world.created()
        with pytest.raises(EgressUnavailable, match="it is a ship"):
            await world.egress.change(instance, OFF)
        assert await world.now(instance) == instance
        with pytest.raises(EgressUnavailable):
            world.egress.rule.check(OFF)
        world.egress.rule.check(ON)


@pytest.mark.parametrize("state", [SandboxState.RUNNING, SandboxState.PAUSED, SandboxState.EXITED])
async def test_what_runs_otherwise_than_the_rule_has_it_is_made_anew(
    closed: World, state: SandboxState
) -> None:
    # As after a restart of the server with another setting.
    instance = await closed.placed(InstanceStatus.RUNNING)
    closed.engine.put(instance.sandbox_id, state, egress=ON)
    await closed.reconciler.agree()
    assert (await closed.settled(instance)).status is InstanceStatus.RUNNING
    assert found(closed, instance) is OFF
    assert closed.engine.made("unpause") == 0


async def test_one_that_somebody_else_has_started_is_made_anew_while_it_waits(
    closed: World,
) -> None:
    instance = await closed.placed(InstanceStatus.RUNNING)
    closed.engine.put(instance.sandbox_id, SandboxState.RUNNING, egress=OFF, is_confined=False)
    await closed.reconciler.agree()
    assert (await closed.settled(instance)).status is InstanceStatus.RUNNING
    assert closed.engine.found[instance.sandbox_id].is_confined
    assert closed.engine.made("boot") == 1
    # Nor has it died: that may happen as often as it likes.
    for _ in range(DEATHS_ALLOWED + 1):
        closed.engine.put(instance.sandbox_id, SandboxState.RUNNING, egress=OFF, is_confined=False)
        await closed.reconciler.agree()
        assert (await closed.settled(instance)).status is InstanceStatus.RUNNING


async def test_a_failed_one_that_still_runs_and_reaches_out_is_ended(closed: World) -> None:
    instance = await closed.placed(InstanceStatus.ERROR)
    closed.engine.put(instance.sandbox_id, SandboxState.RUNNING, egress=ON)
    await closed.reconciler.agree()
    assert closed.engine.state(instance.sandbox_id) is SandboxState.EXITED
    closed.engine.put(instance.sandbox_id, SandboxState.RUNNING, egress=OFF)
    await closed.reconciler.agree()
    assert closed.engine.state(instance.sandbox_id) is SandboxState.RUNNING


async def test_warm_sandboxes_are_made_as_the_servers_setting_has_it_and_fit_no_other(
    tmp_path: Path, closed: World
) -> None:
    await closed.pool.adjust()
    (warm_sandbox,) = await closed.warm_queries.all()
    assert closed.engine.found[warm_sandbox.sandbox_id].egress is OFF
    (tmp_path / "open").mkdir()
    async with open_world(tmp_path / "open", warm_pool_size=1) as opened:
        # It has the same engine and the same first configuration.
        await opened.warm_queries.add(warm_sandbox)
        assert warm_sandbox.fingerprint != opened.pool.fingerprint
        instance = await opened.created()
        assert instance.sandbox_id != warm_sandbox.sandbox_id
        assert found(opened, instance) is ON


async def test_two_who_choose_at_once_leave_it_as_one_of_them_did(world: World) -> None:
    instance = await world.created()
    await asyncio.gather(*(world.egress.change(instance, each) for each in (OFF, ON, OFF)))
    settled = await world.settled(instance)
    assert settled.status is InstanceStatus.RUNNING
    assert found(world, instance) is world.egress.rule.effective(settled)
