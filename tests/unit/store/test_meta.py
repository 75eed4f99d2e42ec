"""The server's values about itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from chowder_local.store.database import MetaQueries

if TYPE_CHECKING:
    from chowder_local.store.database import Database


@pytest.fixture
def meta(database: Database) -> MetaQueries:
    return MetaQueries(database)


async def test_a_stored_value_is_read(meta: MetaQueries) -> None:
    assert await meta.get("relay_port") is None
    await meta.put("relay_port", "2470")
    await meta.put("relay_port", "2471")
    assert await meta.get("relay_port") == "2471"


async def test_the_first_of_racing_values_stays(meta: MetaQueries) -> None:
    async with asyncio.TaskGroup() as tasks:
        put = [tasks.create_task(meta.put_if_absent("id", str(n))) for n in range(20)]
    assert {task.result() for task in put} == {await meta.get("id")}
