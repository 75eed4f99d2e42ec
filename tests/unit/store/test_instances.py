"""Instances: limits and changes under racing calls, and lists."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import IntegrityError, StatementError

from chowder_local.core.domain import (
    Egress,
    Instance,
    InstanceId,
    InstanceStatus,
    OrganizationId,
    SandboxId,
)
from chowder_local.core.secrets import SecretBox
from chowder_local.store import database as database_module
from chowder_local.store import instances as instances_module
from chowder_local.store import schema
from chowder_local.store.instances import InstanceQueries
from chowder_local.store.schema import REVISION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chowder_local.store.database import Database

PROVISIONING, RUNNING, STOPPED, TERMINATED = (
    InstanceStatus.PROVISIONING,
    InstanceStatus.RUNNING,
    InstanceStatus.STOPPED,
    InstanceStatus.TERMINATED,
)


async def test_a_stored_instance_is_read_unchanged(
    instances: InstanceQueries, make: Callable[..., Instance]
) -> None:
    bare = make(1)
    full = make(
        2,
        status=RUNNING,
        openclaw_config={"agents.defaults.model": "x", "deep": {"list": [1, None, "é"]}},
        region="eu",
        error_message="was slow",
        gateway_url="http://127.0.0.1:40000/?token=x",
        first_ready_at=bare.created_at,
        egress=Egress.OFF,
    )
    for instance in (bare, full):
        await instances.add(instance, None)
        assert await instances.get(instance.id) == instance
        assert await instances.by_sandbox(instance.sandbox_id) == instance
    assert await instances.get(InstanceId("other")) is None
    assert await instances.by_sandbox(SandboxId("other")) is None


async def test_two_instances_never_share_a_sandbox(
    instances: InstanceQueries, make: Callable[..., Instance]
) -> None:
    await instances.add(make(1), None)
    with pytest.raises(IntegrityError):
        await instances.add(make(2, sandbox_id=make(1).sandbox_id), None)


async def test_a_list_of_many_pages_is_complete_and_in_order(
    instances: InstanceQueries, make: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "PAGE_SIZE", 2)
    for number in (4, 2, 5, 1, 3):
        await instances.add(make(number), None)
    pages = [page async for page in instances.of_organization(make(1).organization_id)]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [each for page in pages for each in page] == [make(number) for number in range(1, 6)]


async def test_has_all_is_true_for_living_instances_of_the_organization_only(
    instances: InstanceQueries, make: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances_module, "BATCH_SIZE", 2)
    for number in (1, 2, 3):
        await instances.add(make(number), None)
    await instances.add(make(4, status=TERMINATED), None)
    own, ids = make(1).organization_id, [make(number).id for number in (1, 2, 3)]
    assert await instances.has_all(own, ids)
    assert not await instances.has_all(own, [*ids, make(4).id])
    assert not await instances.has_all(own, [*ids, InstanceId("unknown")])
    assert not await instances.has_all(OrganizationId("other"), ids)


async def test_only_sandboxes_of_living_instances_are_owned(
    instances: InstanceQueries, make: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances_module, "BATCH_SIZE", 2)
    living, ended = [make(number) for number in (1, 2, 3)], make(4, status=TERMINATED)
    for instance in (*living, ended):
        await instances.add(instance, None)
    sandbox_ids = {each.sandbox_id for each in (*living, ended)} | {SandboxId("nobodys")}
    assert await instances.owned(sandbox_ids) == {each.sandbox_id for each in living}
    assert await instances.owners(sandbox_ids) == living


async def test_one_of_racing_changes_from_a_status_wins(
    instances: InstanceQueries, make: Callable[..., Instance]
) -> None:
    running = make(1, status=RUNNING)
    await instances.add(running, None)
    now = running.created_at + timedelta(hours=1)
    async with asyncio.TaskGroup() as tasks:
        stopping = [
            tasks.create_task(
                instances.change(running.id, only_from={RUNNING}, now=now, status=STOPPED)
            )
            for _ in range(20)
        ]
    won = [task.result() for task in stopping if task.result() is not None]
    assert won == [replace(running, status=STOPPED, updated_at=now)]
    assert await instances.get(running.id) == won[0]


async def test_times_of_any_zone_come_back_as_the_same_moment_in_utc(
    instances: InstanceQueries, make: Callable[..., Instance]
) -> None:
    eastern = timezone(timedelta(hours=-5))
    at = datetime(2026, 1, 1, 22, 0, 0, 5, tzinfo=eastern)
    await instances.add(make(1, created_at=at), None)
    back = await instances.get(make(1).id)
    assert back is not None
    assert back.created_at == at
    assert back.created_at.utcoffset() == timedelta(0)


async def test_a_time_without_a_zone_is_refused(
    instances: InstanceQueries, make: Callable[..., Instance]
) -> None:
    naive = make(1).created_at.replace(tzinfo=None)
    with pytest.raises(StatementError, match="without a zone"):
        await instances.add(make(1, created_at=naive), None)


async def test_the_configuration_is_encrypted_in_all_files(
    database: Database,
    instances: InstanceQueries,
    make: Callable[..., Instance],
    tmp_path: Path,
) -> None:
    made = make(1, openclaw_config={"channels": {"slack": {"botToken": "xoxb-PLANTED-1"}}})
    await instances.add(made, None)
    config = {"skills": {"entries": {"pager": {"env": {"ROOM": "PLANTED-2"}}}}}
    await instances.change(made.id, now=made.created_at, openclaw_config=config)
    stored = await instances.get(made.id)
    assert stored is not None
    assert stored.openclaw_config == config
    backup = schema.back_up(tmp_path / "chowder.db", REVISION)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert set(files) >= {"chowder.db", "chowder.db-wal", backup.name}
    assert any(made.name.encode() in content for content in files.values())
    assert not [name for name, content in files.items() if b"PLANTED" in content]


async def test_an_instance_with_an_unreadable_configuration_can_be_changed(
    database: Database, instances: InstanceQueries, make: Callable[..., Instance]
) -> None:
    made = make(1, openclaw_config={"a": 1})
    await instances.add(made, None)
    strangers = InstanceQueries(database, SecretBox(b"t" * 32))
    changed = await strangers.change(made.id, now=made.created_at, name="chef")
    assert changed is not None
    assert (changed.name, changed.openclaw_config) == ("chef", {})
    stored = await instances.get(made.id)
    assert stored is not None
    # With the right secret, the configuration is readable again.
    assert (stored.name, stored.openclaw_config) == ("chef", {"a": 1})
