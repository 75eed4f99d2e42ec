"""Work on the same key is done one at a time."""

import asyncio
import gc

import pytest

from chowder_local.core.domain import InstanceId
from chowder_local.core.tasks import KeyedLocks

ADA, BEA = InstanceId("ada"), InstanceId("bea")


async def test_work_on_the_same_key_waits() -> None:
    locks, order = KeyedLocks(), []

    async def change(name: str) -> None:
        async with locks.holding(ADA):
            order.append(f"{name} in")
            await asyncio.sleep(0)
            order.append(f"{name} out")

    async with asyncio.TaskGroup() as group:
        group.create_task(change("first"))
        group.create_task(change("second"))
    assert order == ["first in", "first out", "second in", "second out"]


async def test_different_keys_do_not_wait_for_each_other() -> None:
    locks = KeyedLocks()
    async with locks.holding(ADA), asyncio.timeout(5), locks.holding(BEA):
        assert locks.is_held(ADA)
        assert locks.is_held(BEA)


async def test_a_lock_is_held_only_inside_the_block() -> None:
    locks = KeyedLocks()
    assert not locks.is_held(ADA)
    async with locks.holding(ADA):
        assert locks.is_held(ADA)
        assert not locks.is_held(BEA)
    assert not locks.is_held(ADA)


async def test_a_failure_releases_the_lock() -> None:
    locks = KeyedLocks()
    with pytest.raises(ValueError, match="no"):
        async with locks.holding(ADA):
            raise ValueError("no")
    async with asyncio.timeout(5), locks.holding(ADA):
        pass


async def test_unused_locks_are_removed() -> None:
    locks = KeyedLocks()
    for number in range(100):
        async with locks.holding(InstanceId(str(number))):
            pass
    gc.collect()
    assert len(locks._locks) == 0
