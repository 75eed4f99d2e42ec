"""Warm sandboxes are stored, claimed once, and deleted."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import SandboxId, WarmSandbox
from chowder_local.core.errors.requests import InstanceLimitReached
from chowder_local.store.warm_sandboxes import WarmSandboxQueries

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance
    from chowder_local.store.database import Database
    from chowder_local.store.instances import InstanceQueries

URL = "http://127.0.0.1:32768"
LATER = timedelta(seconds=1)


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


async def test_an_instance_claims_a_warm_sandbox_of_its_fingerprint(
    warm_sandboxes: WarmSandboxQueries,
    warm: WarmSandbox,
    instances: InstanceQueries,
    make: Callable[..., Instance],
) -> None:
    await warm_sandboxes.add(replace(warm, gateway_url=URL))
    instance, claimed = await instances.add(make(1), None, "alike")
    assert claimed == replace(warm, gateway_url=URL)
    assert instance == replace(make(1), sandbox_id=warm.sandbox_id)
    assert await instances.get(instance.id) == instance
    assert await warm_sandboxes.all() == []


@pytest.mark.parametrize(
    ("fingerprint", "url"), [(None, URL), ("other", URL), ("alike", None)], ids=str
)
async def test_a_warm_sandbox_that_does_not_fit_or_is_not_ready_is_not_claimed(
    warm_sandboxes: WarmSandboxQueries,
    warm: WarmSandbox,
    instances: InstanceQueries,
    make: Callable[..., Instance],
    fingerprint: str | None,
    url: str | None,
) -> None:
    await warm_sandboxes.add(replace(warm, gateway_url=url))
    assert await instances.add(make(1), None, fingerprint) == (make(1), None)
    assert await warm_sandboxes.has(warm.sandbox_id)


async def test_the_oldest_booting_sandbox_is_claimed_if_none_is_ready(
    warm_sandboxes: WarmSandboxQueries,
    warm: WarmSandbox,
    instances: InstanceQueries,
    make: Callable[..., Instance],
) -> None:
    ready = replace(warm, sandbox_id=SandboxId("chowder-ready"), gateway_url=URL)
    newer, unlisted = (
        replace(warm, sandbox_id=SandboxId(f"chowder-{name}"), created_at=warm.created_at + LATER)
        for name in ("newer", "unlisted")
    )
    for each in (newer, warm, ready, unlisted):
        await warm_sandboxes.add(each)
    booting = {newer.sandbox_id, warm.sandbox_id}
    assert (await instances.add(make(1), None, "alike", booting))[1] == ready
    assert (await instances.add(make(2), None, "other", booting))[1] is None
    assert (await instances.add(make(3), None, "alike", booting))[1] == warm
    assert (await instances.add(make(4), None, "alike", booting))[1] == newer
    assert (await instances.add(make(5), None, "alike", booting))[1] is None


async def test_an_instance_over_the_limit_claims_nothing(
    warm_sandboxes: WarmSandboxQueries,
    warm: WarmSandbox,
    instances: InstanceQueries,
    make: Callable[..., Instance],
) -> None:
    await warm_sandboxes.add(replace(warm, gateway_url=URL))
    with pytest.raises(InstanceLimitReached):
        await instances.add(make(1), 0, "alike")
    assert await warm_sandboxes.has(warm.sandbox_id)


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
