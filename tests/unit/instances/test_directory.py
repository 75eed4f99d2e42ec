"""Finding the instances that a caller may see."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import OrganizationId
from chowder_local.core.errors.requests import InstanceNotFound
from tests.scripted.operations import change, delete, list_instances, start, stop

if TYPE_CHECKING:
    from tests.scripted.operations import Operation
    from tests.scripted.world import World


@pytest.mark.parametrize("operation", [stop, start, delete, change])
async def test_an_instance_of_another_organization_is_not_found(
    world: World, operation: Operation
) -> None:
    instance = await world.created()
    with pytest.raises(InstanceNotFound):
        await operation(replace(world, organization_id=OrganizationId("somebody-else")), instance)
    assert await world.now(instance) == instance


async def test_the_list_leaves_out_terminated_instances(world: World) -> None:
    ada, bea = await world.created(name="Ada"), await world.created(name="Bea")
    await delete(world, ada)
    assert [each.id for each in await list_instances(world, world.organization_id)] == [bea.id]
