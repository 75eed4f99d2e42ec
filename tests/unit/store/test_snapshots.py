"""Snapshots in the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import (
    Egress,
    InstanceId,
    InstanceStatus,
    ModelProvider,
    Organization,
    SandboxId,
    Snapshot,
    SnapshotId,
    WarmSandbox,
)
from chowder_local.store.snapshots import SnapshotQueries, read_versions_in_use
from chowder_local.store.warm_sandboxes import WarmSandboxQueries
from tests.unit.store.conftest import BOX, NOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance
    from chowder_local.store.database import Database
    from chowder_local.store.instances import InstanceQueries

CONTENT = {"overrides": {"channels.telegram.botToken": "bot-secret"}, "sessions": []}


@pytest.fixture
def snapshots(database: Database) -> SnapshotQueries:
    return SnapshotQueries(database, BOX)


def snapshot(organization: Organization, number: int, **more: Any) -> Snapshot:
    return Snapshot(
        id=SnapshotId(f"snapshot-{number}"),
        organization_id=organization.id,
        model_provider=ModelProvider.OPENAI,
        created_at=NOW + timedelta(seconds=number),
        instance_id=InstanceId("instance-1"),
        name=f"number {number}",
        egress=Egress.OFF,
        **more,
    )


async def test_a_stored_snapshot_is_read_unchanged(
    snapshots: SnapshotQueries, organization: Organization
) -> None:
    kept = snapshot(organization, 1)
    await snapshots.add(kept)
    stored = await snapshots.get(kept.id)
    assert stored is not None
    assert replace(stored, content={}) == kept
    finished = await snapshots.finish(kept.id, 123, CONTENT)
    assert finished is not None
    assert (finished.is_whole, finished.size_bytes, dict(finished.content)) == (True, 123, CONTENT)
    assert await snapshots.get(SnapshotId("none")) is None
    assert await snapshots.finish(SnapshotId("none"), 1, {}) is None


async def test_the_content_of_a_snapshot_is_encrypted(
    snapshots: SnapshotQueries, organization: Organization, database: Database
) -> None:
    await snapshots.add(snapshot(organization, 1, content=CONTENT))
    path = database.path
    written = b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))
    assert b"snapshot-1" in written
    assert b"bot-secret" not in written


async def test_the_versions_that_agents_and_snapshots_need_are_read_beside_a_server(
    snapshots: SnapshotQueries,
    instances: InstanceQueries,
    organization: Organization,
    make: Callable[..., Instance],
    database: Database,
) -> None:
    await instances.add(make(1, openclaw_version="v1"), None)
    await instances.add(make(2, status=InstanceStatus.TERMINATED), None)
    old = {"openclaw_version": "2026.9.5"}
    for number, more in enumerate(({"is_whole": True}, {}, {"is_whole": True, "is_kept": False})):
        await snapshots.add(snapshot(organization, number, content=old, **more))
    assert read_versions_in_use(database.path, BOX) == [
        ("the agent cook 1", "v1"),
        ("the snapshot number 0", "2026.9.5"),
    ]


async def test_a_snapshot_that_a_provisioning_instance_needs_is_no_leftover(
    snapshots: SnapshotQueries,
    instances: InstanceQueries,
    organization: Organization,
    make: Callable[..., Instance],
) -> None:
    for number in (1, 2, 3, 4):
        await snapshots.add(snapshot(organization, number, is_whole=number != 4))
    for number in (1, 2, 2):
        await snapshots.release(SnapshotId(f"snapshot-{number}"))
    await snapshots.release(SnapshotId("none"))
    seeded = make(1, origin_snapshot_id=SnapshotId("snapshot-1"))
    await instances.add(seeded, None)
    stored = await instances.get(seeded.id)
    assert stored is not None
    assert stored.origin_snapshot_id == "snapshot-1"
    assert await snapshots.leftovers() == {"snapshot-2", "snapshot-4"}
    await instances.change(seeded.id, now=NOW, status=InstanceStatus.RUNNING, first_ready_at=NOW)
    assert await snapshots.leftovers() == {"snapshot-1", "snapshot-2", "snapshot-4"}


async def test_replacing_a_sandbox_claims_a_warm_one_if_one_fits(
    database: Database, instances: InstanceQueries, make: Callable[..., Instance]
) -> None:
    former = make(1, status=InstanceStatus.RUNNING, first_ready_at=NOW, gateway_url="http://x")
    await instances.add(former, None)

    async def remade(of: Instance, fingerprint: str | None) -> Any:
        return await instances.replace_sandbox(
            of, SandboxId("chowder-new"), fingerprint=fingerprint, booting=(), now=NOW,
            origin_snapshot_id=SnapshotId("s"), model_provider=ModelProvider.GEMINI,
            openclaw_config={"a": 1},
        )  # fmt: skip

    anew, warm_sandbox = await remade(former, None)
    assert (anew.sandbox_id, anew.status, warm_sandbox) == ("chowder-new", "provisioning", None)
    assert (anew.first_ready_at, anew.gateway_url, anew.origin_snapshot_id) == (None, None, "s")
    assert (anew.model_provider, dict(anew.openclaw_config)) == ("gemini", {"a": 1})
    assert await instances.by_sandbox(former.sandbox_id) is None
    # A change based on an outdated status has no effect.
    assert await remade(former, None) is None
    assert await remade(replace(former, id=InstanceId("none")), None) is None
    waiting = WarmSandbox(SandboxId("chowder-warm sandbox"), "like", NOW, "http://warm sandbox")
    await WarmSandboxQueries(database).add(waiting)
    anew, warm_sandbox = await remade(anew, "like")
    assert (anew.sandbox_id, warm_sandbox) == ("chowder-warm sandbox", waiting)
    assert await WarmSandboxQueries(database).all() == []
