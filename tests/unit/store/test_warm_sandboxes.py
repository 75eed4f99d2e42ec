"""Warm sandboxes are stored, claimed once, and deleted."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import SandboxId, WarmSandbox
from chowder_local.store.warm_sandboxes import WarmSandboxQueries

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance
    from chowder_local.store.database import Database
    from chowder_local.store.instances import InstanceQueries

URL = "http://127.0.0.1:32768"


@pytest.fixture
def warm_sandboxes(database: Database) -> WarmSandboxQueries:
    return WarmSandboxQueries(database)


@pytest.fixture
def warm(make: Callable[..., Instance]) -> WarmSandbox:
    return WarmSandbox(SandboxId("chowder-warm"), "alike", make(1).created_at)


async def test_a_stored_warm_sandbox_is_read_unchanged(
    warm_sandboxes: WarmSandboxQueries, warm: WarmSandbox
) -> None:
    await warm_sandboxes.add(warm)
    assert await warm_sandboxes.all() == [warm]
    await warm_sandboxes.ready(warm.sandbox_id, URL)
    assert await warm_sandboxes.all() == [replace(warm, gateway_url=URL)]
    assert await warm_sandboxes.has(warm.sandbox_id)


async def test_only_the_first_drop_of_a_warm_sandbox_returns_true(
    warm_sandboxes: WarmSandboxQueries, warm: WarmSandbox
) -> None:
    await warm_sandboxes.add(warm)
    assert await warm_sandboxes.drop(warm.sandbox_id)
    assert not await warm_sandboxes.drop(warm.sandbox_id)
    assert not await warm_sandboxes.has(warm.sandbox_id)


async def test_racing_creates_claim_different_warm_sandboxes(
    warm_sandboxes: WarmSandboxQueries,
    warm: WarmSandbox,
    instances: InstanceQueries,
    make: Callable[..., Instance],
) -> None:
    for number in range(3):
        each = replace(warm, sandbox_id=SandboxId(f"chowder-warm-{number}"), gateway_url=URL)
        await warm_sandboxes.add(each)
    async with asyncio.TaskGroup() as tasks:
        adding = [
            tasks.create_task(instances.add(make(number), None, "alike")) for number in range(10)
        ]
    claimed = Counter(warm and warm.sandbox_id for _, warm in (task.result() for task in adding))
    assert claimed.pop(None) == 7
    assert sorted(claimed.values()) == [1, 1, 1]
