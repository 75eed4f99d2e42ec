"""Operations on instances as the organization of a world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import Caller, KeyId
from tests.scripted.pages import all_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chowder_local.core.domain import Instance, OrganizationId
    from tests.scripted.world import World

    Operation = Callable[[World, Instance], Awaitable[Any]]


async def stop(world: World, instance: Instance) -> Instance:
    return await world.lifecycle.stop(world.organization_id, instance.id)


async def start(world: World, instance: Instance) -> Instance:
    return await world.lifecycle.start(world.organization_id, instance.id)


async def delete(world: World, instance: Instance) -> None:
    await world.lifecycle.delete(world.organization_id, instance.id)


async def change(world: World, instance: Instance, **fields: Any) -> Instance:
    changed = await world.reconfiguration.change(world.organization_id, instance.id, **fields)
    return changed.instance


async def list_instances(world: World, organization_id: OrganizationId) -> list[Instance]:
    return await all_of(world.directory.all(Caller(organization_id, KeyId("its-own"))))
