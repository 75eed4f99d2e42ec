"""Creating instances within the limits of their organization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceStatus, Tier
from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.core.errors.requests import InstanceLimitReached
from tests.scripted.engine import Hold
from tests.scripted.operations import list_instances

if TYPE_CHECKING:
    from tests.scripted.world import World

PROVISIONING, RUNNING, STOPPED, ERROR, TERMINATED = InstanceStatus


async def test_create_returns_before_the_boot(world: World) -> None:
    hold = world.engine.holds["boot"] = Hold()
    instance = await world.creation.create(world.organization_id, name="Ada")
    assert instance.status is PROVISIONING
    assert instance == await world.now(instance)
    hold.may_end.set()
    assert (await world.settled(instance)).status is RUNNING


async def test_an_instance_over_the_limit_of_the_tier_is_neither_stored_nor_booted(
    world: World,
) -> None:
    details, _ = await world.organizations.signup("Small", tier=Tier.SHRIMP)
    small = details.organization.id
    first = await world.creation.create(small, name="one")
    await world.settled(first)
    with pytest.raises(InstanceLimitReached, match="1/1"):
        await world.creation.create(small, name="two")
    assert [each.id for each in await list_instances(world, small)] == [first.id]


async def test_a_deleted_instance_does_not_count_towards_the_limit(world: World) -> None:
    details, _ = await world.organizations.signup("Small", tier=Tier.SHRIMP)
    small = details.organization.id
    first = await world.creation.create(small, name="one")
    await world.lifecycle.delete(small, first.id)
    await world.settled(await world.creation.create(small, name="two"))


async def test_an_invalid_configuration_creates_no_instance(world: World) -> None:
    config = {"gateway.port": 1}
    with pytest.raises(ConfigRefused):
        await world.creation.create(world.organization_id, name="Ada", openclaw_config=config)
    assert await list_instances(world, world.organization_id) == []
