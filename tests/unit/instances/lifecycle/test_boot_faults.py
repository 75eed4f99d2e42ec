"""Injected faults that fail or delay provisioning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceStatus, ModelProvider, OrganizationId, SandboxState
from chowder_local.core.events import EventType
from chowder_local.core.fault_injection import FaultDraft, FaultKind
from chowder_local.openclaw.warmup import TURN_COUNT
from tests.scripted.programs import done
from tests.scripted.serving import eventually
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from pathlib import Path

NEVER_S = 600.0
PROVISIONING, RUNNING, ERROR = (
    InstanceStatus.PROVISIONING,
    InstanceStatus.RUNNING,
    InstanceStatus.ERROR,
)
FAILING = FaultDraft(FaultKind.PROVISIONING, detail="No room in the harbour.")


def set_fault(world: World, fault: FaultDraft = FAILING) -> None:
    world.faults.add(world.organization_id, fault)


async def test_a_fault_fails_one_new_instance_as_a_failed_boot_would(
    world: World,
) -> None:
    set_fault(world)
    failed, well = await world.created(), await world.created()
    assert (failed.status, failed.error_message) == (ERROR, "No room in the harbour.")
    assert well.status is RUNNING
    events = [each for each in world.events.after(0) if each.instance_id == failed.id]
    assert [each.type for each in events] == [
        EventType.INSTANCE_STATUS,
        EventType.FAULT_APPLIED,
        EventType.BOOT_QUEUED,
        EventType.BOOT_BEGUN,
        EventType.BOOT_ENDED,
        EventType.INSTANCE_STATUS,
    ]
    assert events[4].members["outcome"] == "failed"


async def test_a_delayed_boot_is_provisioning_and_delays_no_other(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path, boot_concurrency=1) as world:
        set_fault(world, FaultDraft(FaultKind.PROVISIONING, delay_s=NEVER_S))
        slow = await world.creation.create(world.organization_id, name="Ada")
        assert (await world.created()).status is RUNNING
        assert (await world.now(slow)).status is PROVISIONING
        # The reconciler does not begin a second boot.
        await world.reconciler.reconcile()
        await world.lifecycle.delete(world.organization_id, slow.id)
        assert (await world.now(slow)).status is InstanceStatus.TERMINATED


async def test_a_delayed_instance_runs_in_the_end(world: World) -> None:
    set_fault(world, FaultDraft(FaultKind.PROVISIONING, delay_s=0.01))
    assert (await world.created()).status is RUNNING
    assert not world.faults.are_set


async def test_a_fault_does_not_hide_a_missing_model_key(world: World) -> None:
    set_fault(world)
    failed = await world.created(model_provider=ModelProvider.GEMINI)
    assert "No API key for gemini" in (failed.error_message or "")


async def test_a_fault_of_another_organization_has_no_effect(world: World) -> None:
    world.faults.add(OrganizationId("others"), FAILING)
    assert (await world.created()).status is RUNNING


async def test_faults_do_not_affect_instances_that_were_ready_before(world: World) -> None:
    instance = await world.created()
    set_fault(world)
    world.engine.put(instance.sandbox_id, SandboxState.MISSING)
    await world.reconciler.reconcile()
    assert (await world.settled(instance)).status is RUNNING
    assert world.faults.are_set


@pytest.mark.parametrize(
    ("fault", "is_used"),
    [(FAILING, False), (FaultDraft(FaultKind.PROVISIONING, delay_s=0.01), True)],
)
async def test_an_instance_that_a_fault_fails_claims_no_warm_sandbox(
    tmp_path: Path, fault: FaultDraft, is_used: bool
) -> None:
    async with open_world(tmp_path, warm_pool_size=1) as world:
        world.programs.answers["sessions.delete"] = done()
        while await world.pool.adjust():
            pass
        (warm_sandbox,) = await world.warm_queries.all()
        set_fault(world, fault)
        instance = await world.created()
        assert (instance.sandbox_id == warm_sandbox.sandbox_id) == is_used
        assert bool(await world.warm_queries.all()) != is_used
        if not is_used:
            assert world.engine.containers[warm_sandbox.sandbox_id].state is SandboxState.PAUSED
            assert len(world.gateway.messages) == TURN_COUNT


async def test_a_delay_ends_with_the_server(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        set_fault(world, FaultDraft(FaultKind.PROVISIONING, delay_s=NEVER_S, detail="No."))
        instance = await world.creation.create(world.organization_id, name="Ada")
        await eventually(lambda: world.provisioner.in_progress_count, "it waits")
    # The row stays `provisioning`, so that the next server process boots it.
    assert instance.status is PROVISIONING
