"""Changing a running agent's configuration atomically."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.errors.agents import ConfigRefused, GatewayUnavailable
from chowder_local.instances.configuration import live_config
from chowder_local.openclaw import gateway
from chowder_local.openclaw.config.agent_config import CONFIG_FILE
from tests.scripted.engine import Hold
from tests.scripted.gateway import refused
from tests.scripted.serving import eventually
from tests.scripted.talking import IMAGE_REQUEST, respond

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from tests.scripted.world import World

OVERRIDES = {"hooks.enabled": True}
FORMER = '{"former": true}'
NOT_APPLIED = "config.patch persisted but was not applied to the active Gateway (failed)"


async def change(world: World, instance: Instance) -> None:
    await world.reconfiguration.change(
        world.organization_id, instance.id, name="Bea", overrides=OVERRIDES
    )


async def test_a_configuration_that_openclaw_cannot_apply_is_reverted(world: World) -> None:
    instance = await world.created()
    (world.state_of(instance) / CONFIG_FILE).write_text(FORMER)
    world.engine.log = "\n".join(
        f"{stamp}+00:00 [reload] config reload failed: Error: {reason}"
        for stamp, reason in (
            ("2026-01-01T12:00:00.000", "of an earlier change"),
            ("2999-01-01T12:00:00.000", "hooks need a token"),
            ("2999-99-99T99:99:99.999", "forged"),
        )
    )
    world.gateway.rpc_answers["config.patch"] = refused(NOT_APPLIED, 503)
    with pytest.raises(ConfigRefused, match=r"not apply this: Error: hooks need a token$"):
        await change(world, instance)
    assert (world.state_of(instance) / CONFIG_FILE).read_text() == FORMER
    assert await world.now(instance) == instance


async def test_no_other_change_begins_before_a_revert_is_ruled_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await world.created()
    world.gateway.rpc_answers["config.patch"] = refused(NOT_APPLIED, 503)
    hold = world.engine.holds["log_tail"] = Hold()
    async with asyncio.TaskGroup() as group:
        changing = group.create_task(refusal_of_change(world, instance))
        await hold.has_begun.wait()
        lock = world.config_locks.holding(instance.sandbox_id)
        assert lock.locked()
        monkeypatch.setattr(live_config, "REASON_TIMEOUT_S", 0)
        hold.may_end.set()
        assert "not apply this" in await changing
    assert not lock.locked()


async def test_after_a_change_vision_models_are_registered_again(
    world: World,
) -> None:
    instance = await world.created()
    await respond(world, instance, IMAGE_REQUEST)
    await change(world, instance)
    await respond(world, instance, IMAGE_REQUEST)
    patches = [json.loads(each["raw"]) for each in world.gateway.called("config.patch")]
    assert [[*patch] for patch in patches] == [["models"], ["hooks"], ["models"]]


async def test_without_a_reason_in_the_log_the_refusal_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_config, "REASON_TIMEOUT_S", 0)
    instance = await world.created()
    world.engine.log = "2026-01-01T12:00:00.000+00:00 [reload] config reload failed: Error: before"
    world.gateway.rpc_answers["config.patch"] = refused(NOT_APPLIED, 503)
    with pytest.raises(ConfigRefused, match="does not say why"):
        await change(world, instance)


async def test_an_agent_that_does_not_restart_is_booted_with_the_former_configuration(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "RESTART_TIMEOUT_S", 5.0)
    instance = await world.created()
    (world.state_of(instance) / CONFIG_FILE).write_text(FORMER)
    world.gateway.requires_restart = True
    world.gateway.uptime_ms = 60_000
    async with asyncio.TaskGroup() as group:
        changing = group.create_task(refusal_of_change(world, instance))
        await eventually(lambda: world.gateway.probes > 2, "the restart is waited for")
        # It restarts, then ends.
        world.gateway.uptime_ms = 0
        world.engine.put(instance.sandbox_id, SandboxState.EXITED, exit_code=1)
        world.engine.log = "Gateway failed to start: hooks.enabled requires hooks.token"
    assert "does not start with this" in changing.result()
    assert "hooks.enabled requires hooks.token" in changing.result()
    assert world.engine.state(instance.sandbox_id) is SandboxState.RUNNING
    assert world.engine.files[instance.sandbox_id][CONFIG_FILE] == FORMER.encode()
    now = await world.now(instance)
    assert (now.status, now.name) == (InstanceStatus.RUNNING, instance.name)
    assert now.openclaw_config is None


async def refusal_of_change(world: World, instance: Instance) -> str:
    with pytest.raises(ConfigRefused) as refusal:
        await change(world, instance)
    return str(refusal.value)


async def test_an_unreadable_configuration_is_not_changed(world: World) -> None:
    instance = await world.created()
    (world.state_of(instance) / CONFIG_FILE).unlink()
    with pytest.raises(GatewayUnavailable, match="cannot be read"):
        await change(world, instance)
    assert world.gateway.called("config.patch") == []
