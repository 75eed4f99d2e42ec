"""Network egress: settings, changes, and the repair of sandboxes that do not match."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import Egress, InstanceId, InstanceStatus, SandboxState
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.core.errors.sandboxes import EgressUnavailable
from chowder_local.instances.lifecycle.agents import EgressRule
from chowder_local.instances.lifecycle.creation import InstanceDraft
from chowder_local.instances.lifecycle.reconciler import DEATHS_ALLOWED
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
    """A server whose default is `off`, with a warm pool of one."""
    folder = tmp_path / "closed"
    folder.mkdir()
    async with open_world(folder, egress=EgressRule(OFF), warm_pool_size=1) as world:
        world.programs.answers["sessions.delete"] = done()
        yield world


def egress_of(world: World, instance: Instance) -> Egress:
    return world.engine.containers[instance.sandbox_id].egress


async def test_an_instance_has_the_default_of_the_server_unless_it_has_its_own_setting(
    world: World, closed: World
) -> None:
    assert egress_of(world, await world.created()) is ON
    assert egress_of(closed, await closed.created()) is OFF


@pytest.mark.parametrize("chosen", [ON, OFF])
async def test_the_setting_of_an_instance_overrides_the_default(
    world: World, chosen: Egress
) -> None:
    rule = EgressRule(OFF if chosen is ON else ON)
    instance = await world.placed(InstanceStatus.RUNNING)
    assert rule.effective(replace(instance, egress=chosen)) is chosen
    assert rule.effective(instance) is rule.default


async def test_a_change_of_a_running_instance_replaces_the_container_and_keeps_the_volume(
    world: World,
) -> None:
    instance = await world.created()
    provisioner, removals = world.engine.made("boot"), world.engine.made("remove")
    changed = await world.lifecycle.change_egress(instance, OFF)
    assert (changed.status, changed.egress) == (InstanceStatus.PROVISIONING, OFF)
    assert changed.gateway_url is None
    settled = await world.settled(instance)
    assert (settled.status, settled.egress) == (InstanceStatus.RUNNING, OFF)
    assert egress_of(world, instance) is OFF
    # The volume was kept: nothing was removed.
    assert (world.engine.made("boot"), world.engine.made("remove")) == (provisioner + 1, removals)
    # It was drained first.
    assert "gateway.suspend.prepare" in [method for method, _ in world.gateway.rpc_calls]


async def test_setting_the_effective_egress_again_keeps_the_sandbox(world: World) -> None:
    instance = await world.created()
    provisioner = world.engine.made("boot")
    changed = await world.lifecycle.change_egress(instance, ON)
    assert (changed.status, changed.egress) == (InstanceStatus.RUNNING, ON)
    assert (await world.lifecycle.change_egress(instance, None)).egress is None
    assert world.engine.made("boot") == provisioner


async def test_a_stopped_instance_gets_its_new_sandbox_when_it_is_started(world: World) -> None:
    instance = await world.stopped()
    changed = await world.lifecycle.change_egress(instance, OFF)
    assert changed.status is InstanceStatus.STOPPED
    assert world.engine.state(instance.sandbox_id) is SandboxState.PAUSED
    unpaused = world.engine.made("unpause")
    await world.lifecycle.start(world.organization_id, instance.id)
    assert egress_of(world, instance) is OFF
    # The old container was never resumed.
    assert world.engine.made("unpause") == unpaused


async def test_a_change_during_provisioning_restarts_the_boot(world: World) -> None:
    hold = world.engine.holds["boot"] = Hold()
    instance = await world.creation.create(world.organization_id, InstanceDraft("Ada"))
    await hold.has_begun.wait()
    del world.engine.holds["boot"]
    changed = await world.lifecycle.change_egress(instance, OFF)
    assert changed.status is InstanceStatus.PROVISIONING
    assert (await world.settled(instance)).status is InstanceStatus.RUNNING
    assert egress_of(world, instance) is OFF


@pytest.mark.parametrize("status", [InstanceStatus.ERROR, InstanceStatus.TERMINATED])
async def test_a_failed_or_deleted_instance_cannot_be_changed(
    world: World, status: InstanceStatus
) -> None:
    instance = await world.placed(status)
    with pytest.raises(InstanceStateWrong):
        await world.lifecycle.change_egress(instance, OFF)
    with pytest.raises(InstanceNotFound):
        await world.lifecycle.change_egress(replace(instance, id=InstanceId("none")), OFF)


async def test_egress_off_is_refused_if_the_engine_cannot_isolate_sandboxes(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path, egress=EgressRule(problem="it is a ship.")) as world:
        instance = await world.created()
        with pytest.raises(EgressUnavailable, match="it is a ship"):
            await world.lifecycle.change_egress(instance, OFF)
        assert await world.now(instance) == instance
        with pytest.raises(EgressUnavailable):
            world.egress_rule.check(OFF)
        world.egress_rule.check(ON)


@pytest.mark.parametrize("state", [SandboxState.RUNNING, SandboxState.PAUSED, SandboxState.EXITED])
async def test_the_reconciler_replaces_a_sandbox_with_the_wrong_egress(
    closed: World, state: SandboxState
) -> None:
    # As after a restart of the server with another default.
    instance = await closed.placed(InstanceStatus.RUNNING)
    closed.engine.put(instance.sandbox_id, state, egress=ON)
    await closed.reconciler.reconcile()
    assert (await closed.settled(instance)).status is InstanceStatus.RUNNING
    assert egress_of(closed, instance) is OFF
    assert closed.engine.made("unpause") == 0


async def test_a_sandbox_that_was_resumed_manually_with_the_wrong_egress_is_replaced(
    closed: World,
) -> None:
    instance = await closed.placed(InstanceStatus.RUNNING)
    closed.engine.put(instance.sandbox_id, SandboxState.RUNNING, egress=OFF, is_confined=False)
    await closed.reconciler.reconcile()
    assert (await closed.settled(instance)).status is InstanceStatus.RUNNING
    assert closed.engine.containers[instance.sandbox_id].is_confined
    assert closed.engine.made("boot") == 1
    # These replacements do not count as deaths.
    for _ in range(DEATHS_ALLOWED + 1):
        closed.engine.put(instance.sandbox_id, SandboxState.RUNNING, egress=OFF, is_confined=False)
        await closed.reconciler.reconcile()
        assert (await closed.settled(instance)).status is InstanceStatus.RUNNING


async def test_warm_sandboxes_have_the_default_egress_and_fit_no_other_setting(
    tmp_path: Path, closed: World
) -> None:
    await closed.pool.adjust()
    (warm_sandbox,) = await closed.warm_queries.all()
    assert closed.engine.containers[warm_sandbox.sandbox_id].egress is OFF
    (tmp_path / "open").mkdir()
    async with open_world(tmp_path / "open", warm_pool_size=1) as opened:
        # It has the same engine and the same initial configuration.
        await opened.warm_queries.add(warm_sandbox)
        assert warm_sandbox.fingerprint != opened.warm_sandboxes.fingerprint
        instance = await opened.created()
        assert instance.sandbox_id != warm_sandbox.sandbox_id
        assert egress_of(opened, instance) is ON


async def test_of_two_simultaneous_changes_one_wins(world: World) -> None:
    instance = await world.created()
    await asyncio.gather(
        *(world.lifecycle.change_egress(instance, each) for each in (OFF, ON, OFF))
    )
    settled = await world.settled(instance)
    assert settled.status is InstanceStatus.RUNNING
    assert egress_of(world, instance) is world.egress_rule.effective(settled)
