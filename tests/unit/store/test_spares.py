"""Spares are kept, claimed once, and forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import SandboxId, Spare
from chowder_local.core.errors.requests import InstanceLimitReached
from chowder_local.store.spares import SpareQueries

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance
    from chowder_local.store.database import Database
    from chowder_local.store.instances import InstanceQueries

URL = "http://127.0.0.1:32768"


@pytest.fixture
def spares(database: Database) -> SpareQueries:
    return SpareQueries(database)


@pytest.fixture
def spare(make: Callable[..., Instance]) -> Spare:
    return Spare(SandboxId("chowder-spare"), "alike", make(1).created_at)


async def test_a_spare_is_kept_as_it_is(spares: SpareQueries, spare: Spare) -> None:
    await spares.add(spare)
    assert await spares.all() == [spare]
    await spares.ready(spare.sandbox_id, URL)
    assert await spares.all() == [replace(spare, gateway_url=URL)]
    assert await spares.has(spare.sandbox_id)


async def test_a_dropped_spare_is_gone_and_only_the_first_drop_says_so(
    spares: SpareQueries, spare: Spare
) -> None:
    await spares.add(spare)
    assert await spares.drop(spare.sandbox_id)
    assert not await spares.drop(spare.sandbox_id)
    assert not await spares.has(spare.sandbox_id)


async def test_an_instance_takes_the_place_of_a_spare_of_its_likeness(
    spares: SpareQueries, spare: Spare, instances: InstanceQueries, make: Callable[..., Instance]
) -> None:
    await spares.add(replace(spare, gateway_url=URL))
    instance, claimed = await instances.add(make(1), None, "alike")
    assert claimed == replace(spare, gateway_url=URL)
    assert instance == replace(make(1), sandbox_id=spare.sandbox_id)
    assert await instances.get(instance.id) == instance
    assert await spares.all() == []


@pytest.mark.parametrize(
    ("likeness", "url"), [(None, URL), ("other", URL), ("alike", None)], ids=str
)
async def test_what_is_not_wanted_or_not_ready_is_not_claimed(
    spares: SpareQueries,
    spare: Spare,
    instances: InstanceQueries,
    make: Callable[..., Instance],
    likeness: str | None,
    url: str | None,
) -> None:
    await spares.add(replace(spare, gateway_url=url))
    assert await instances.add(make(1), None, likeness) == (make(1), None)
    assert await spares.has(spare.sandbox_id)


async def test_the_offered_one_goes_to_whoever_finds_none_ready(
    spares: SpareQueries, spare: Spare, instances: InstanceQueries, make: Callable[..., Instance]
) -> None:
    ready = replace(spare, sandbox_id=SandboxId("chowder-ready"), gateway_url=URL)
    await spares.add(spare)
    await spares.add(ready)
    offered = spare.sandbox_id
    assert (await instances.add(make(1), None, "alike", offered))[1] == ready
    assert (await instances.add(make(2), None, "other", offered))[1] is None
    assert (await instances.add(make(3), None, "alike", offered))[1] == spare
    assert (await instances.add(make(4), None, "alike", offered))[1] is None


async def test_who_is_over_the_limit_claims_nothing(
    spares: SpareQueries, spare: Spare, instances: InstanceQueries, make: Callable[..., Instance]
) -> None:
    await spares.add(replace(spare, gateway_url=URL))
    with pytest.raises(InstanceLimitReached):
        await instances.add(make(1), 0, "alike")
    assert await spares.has(spare.sandbox_id)


async def test_of_creates_that_race_each_spare_goes_to_one(
    spares: SpareQueries, spare: Spare, instances: InstanceQueries, make: Callable[..., Instance]
) -> None:
    for number in range(3):
        each = replace(spare, sandbox_id=SandboxId(f"chowder-spare-{number}"), gateway_url=URL)
        await spares.add(each)
    async with asyncio.TaskGroup() as tasks:
        adding = [
            tasks.create_task(instances.add(make(number), None, "alike")) for number in range(10)
        ]
    claimed = Counter(spare and spare.sandbox_id for _, spare in (task.result() for task in adding))
    assert claimed.pop(None) == 7
    assert sorted(claimed.values()) == [1, 1, 1]
