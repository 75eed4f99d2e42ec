"""Moving instances between OpenClaw releases, with a way back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import Instance, InstanceStatus
from chowder_local.core.errors.agents import InstanceInUse, UpgradeRefused, VersionUnavailable
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.core.errors.sandboxes import EngineUnavailable
from tests.scripted.homes import archive

if TYPE_CHECKING:
    from tests.scripted.world import World

NOTES = ".openclaw/workspace/notes.md"


async def agent(world: World, version: str = "2026.9.5") -> Instance:
    instance = await world.created(openclaw_version=version)
    world.engine.put_home(instance.sandbox_id, archive({NOTES: b"teal"}))
    return instance


async def test_an_upgrade_boots_the_same_volume_with_the_other_release(world: World) -> None:
    instance = await agent(world)
    assert world.engine.booted_versions[instance.sandbox_id] == "2026.9.5"
    upgraded, snapshot = await world.upgrades.upgrade(instance, "2026.9.7")
    assert upgraded.status is InstanceStatus.PROVISIONING
    running = await world.settled(upgraded)
    assert (running.status, running.openclaw_version) == (InstanceStatus.RUNNING, "2026.9.7")
    assert running.sandbox_id == instance.sandbox_id
    assert world.engine.booted_versions[instance.sandbox_id] == "2026.9.7"
    assert (snapshot.name, snapshot.openclaw_version) == ("before OpenClaw 2026.9.7", "2026.9.5")


async def test_its_snapshot_brings_the_former_release_back(world: World) -> None:
    instance = await agent(world)
    upgraded, snapshot = await world.upgrades.upgrade(instance, "2026.9.7")
    upgraded = await world.settled(upgraded)
    restored = await world.settled(
        await world.restores.restore(upgraded.organization_id, upgraded, snapshot.id)
    )
    assert (restored.status, restored.openclaw_version) == (InstanceStatus.RUNNING, "2026.9.5")
    assert world.engine.booted_versions[restored.sandbox_id] == "2026.9.5"


async def test_a_snapshot_whose_release_has_no_image_is_not_restored(world: World) -> None:
    instance = await agent(world)
    snapshot = await world.snapshots.take(instance)
    world.engine.versions.remove("2026.9.5")
    with pytest.raises(VersionUnavailable, match=r"image build --openclaw 2026\.9\.5"):
        await world.restores.restore(instance.organization_id, instance, snapshot.id)
    assert (await world.now(instance)).status is InstanceStatus.RUNNING


async def test_a_fork_has_the_release_of_its_original(world: World) -> None:
    fork = await world.settled(await world.forks.fork(await agent(world), "Bea"))
    assert fork.openclaw_version == "2026.9.5"
    assert world.engine.booted_versions[fork.sandbox_id] == "2026.9.5"


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("2026.9.5", "runs OpenClaw 2026.9.5 already"),
        ("2026.9.4", "2026.9.4 does not read what 2026.9.5 has written"),
    ],
)
async def test_only_a_newer_release_is_an_upgrade(world: World, to: str, reason: str) -> None:
    instance = await agent(world)
    world.engine.versions.add("2026.9.4")
    with pytest.raises(UpgradeRefused, match=reason):
        await world.upgrades.upgrade(instance, to)
    assert await world.snapshots.of_instance(instance.id) == []


async def test_the_servers_own_release_is_an_upgrade_too(world: World) -> None:
    upgraded, _ = await world.upgrades.upgrade(await agent(world), "v1")
    assert (await world.settled(upgraded)).openclaw_version == "v1"
    assert world.engine.booted_versions[upgraded.sandbox_id] == "v1"


async def test_an_agent_that_answers_is_not_interrupted(world: World) -> None:
    instance = await agent(world)
    with world.residency.counting(instance.id), pytest.raises(InstanceInUse):
        await world.upgrades.upgrade(instance, "2026.9.7")
    assert await world.snapshots.of_instance(instance.id) == []


async def test_a_stopped_agent_is_not_upgraded(world: World) -> None:
    instance = await agent(world)
    stopped = await world.lifecycle.stop(instance.organization_id, instance.id)
    with pytest.raises(InstanceStateWrong):
        await world.upgrades.upgrade(stopped, "2026.9.7")


@pytest.mark.parametrize("report", [b"", b"[]", b"{", b'{"a": ' + b"[" * 100_000, b"\xff"])
async def test_a_report_that_is_none_is_an_error_with_words(world: World, report: bytes) -> None:
    instance = await agent(world)
    world.engine.examinations["2026.9.7"] = report
    with pytest.raises(EngineUnavailable, match=r"2026\.9\.7 gave no report .*, and try again"):
        await world.upgrade_checks.examine(instance, "2026.9.7")


async def test_a_dry_run_changes_nothing_and_lists_errors_first_and_the_expected_last(
    world: World,
) -> None:
    instance = await agent(world)
    migrated, same, new, error = (
        {"check": "core/migrated", "severity": "info", "message": "as it", "is_expected": True},
        {"check": "core/same", "severity": "error", "message": "was there before"},
        {"check": "core/new", "severity": "warning", "message": "hm"},
        {"check": "core/error", "severity": "error", "message": "no"},
    )
    for version, found in (("2026.9.5", [same]), ("2026.9.7", [migrated, same, new, error])):
        world.engine.examinations[version] = json.dumps({"findings": found}).encode()
    findings = await world.upgrade_checks.examine(instance, "2026.9.7")
    assert [(each.check, each.is_expected) for each in findings] == [
        ("core/error", False),
        ("core/new", False),
        ("core/same", True),
        ("core/migrated", True),
    ]
    assert await world.now(instance) == instance
    assert await world.snapshots.of_instance(instance.id) == []
