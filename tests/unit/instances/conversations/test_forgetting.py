"""Memory of deleted instances is freed."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.errors.agents import AgentDiskFull
from chowder_local.instances.lifecycle.reconciler import DEATHS_WINDOW_S
from tests.scripted import gateway as scripted
from tests.scripted.talking import IMAGE_REQUEST, failed, respond
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from pathlib import Path

LIVES = 4
BOUNDED = (
    "vision_models._registered", "first_turn_locks._opened", "_full_disks",
    "sessions._names", "histories._cache",
    "events._kept", "demand._times", "traces._turns",
)  # fmt: skip
"""These may grow up to their capacity."""
WRITTEN = ("usage._unwritten", ".pending")
"""A writer, which does not run here, empties these."""
SCRIPTED = ("engine", "gateway", "programs", "beside", "processes")


def sizes(part: Any, name: str, seen: set[int]) -> dict[str, int]:
    """The size of each collection in our objects, by its path."""
    if id(part) in seen:
        return {}
    seen.add(id(part))
    if isinstance(part, dict | set | list | deque):
        return {name: len(part)}
    if not type(part).__module__.startswith("chowder_local"):
        return {}
    collections: dict[str, int] = {}
    for key, value in getattr(part, "__dict__", {}).items():
        collections |= sizes(value, f"{name}.{key}", seen)
    return collections


def sizes_of_world(world: World) -> dict[str, int]:
    seen: set[int] = set()
    collections: dict[str, int] = {}
    for name, part in vars(world).items():
        if name not in SCRIPTED:
            collections |= sizes(part, name, seen)
    return collections


async def use_everything(world: World) -> None:
    """Uses every feature that stores something about an instance."""
    instance = await world.created()
    await respond(world, instance, IMAGE_REQUEST, "notes")
    world.gateway.handler = scripted.failing(500, failed("internal error"))
    world.engine.disk_free = 0
    with pytest.raises(AgentDiskFull):
        await respond(world, instance)
    world.gateway.handler, world.engine.disk_free = None, 10_000_000_000
    await world.lifecycle.stop(world.organization_id, instance.id)
    instance = await world.lifecycle.start(world.organization_id, instance.id)
    fork = await world.settled(await world.forks.fork(instance, "Bea"))
    assert fork.status is InstanceStatus.RUNNING
    good, log = world.engine.booted, world.engine.log
    world.engine.booted = replace(good, state=SandboxState.EXITED, exit_code=78)
    world.engine.log = "ENOSPC: no space left on device"
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    await world.reconciler.reconcile()
    assert (await world.settled(instance)).status is InstanceStatus.PROVISIONING
    world.engine.booted, world.engine.log = good, log
    # A message to it goes on while it is deleted.
    with world.residency.counting(instance.id):
        for each in (instance, fork):
            await world.lifecycle.delete(world.organization_id, each.id)
    world.clock.advance(DEATHS_WINDOW_S)
    await world.reconciler.reconcile()


async def test_no_memory_is_kept_for_deleted_instances(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await use_everything(world)
        before = sizes_of_world(world)
        for _ in range(LIVES):
            await use_everything(world)
        after = sizes_of_world(world)
    left = {name: size for name, size in after.items() if size >= before.get(name, 0) + LIVES}
    assert [name for name in left if not name.endswith((*BOUNDED, *WRITTEN))] == []
