"""The checks of `doctor` in a running server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.domain import EngineNode
from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.core.settings import Settings
from chowder_local.diagnostics.checks import Finding, Level, ServerDiagnosis
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.engine_facts import EngineFacts
from chowder_local.features.feature import NAMES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scripted.world import World

FACTS = EngineFacts(
    address=EngineAddress("unix:///x.sock", "a test"),
    version="28.0",
    api_version="1.48",
    system="Debian",
    memory_bytes=64_000_000_000,
    cpu_count=8,
    root_dir="",
    has_memory_limit=True,
    has_pids_limit=True,
)


async def findings_of(
    world: World, tmp_path: Path, failure: EngineUnavailable | None = None
) -> dict[str, Finding]:
    async def engine_facts() -> EngineFacts:
        if failure is not None:
            raise failure
        return FACTS

    server_diagnosis = ServerDiagnosis(Settings(data_dir=tmp_path), world.health, engine_facts)
    return {each.subject: each for each in (await server_diagnosis.report())[1]}


async def test_the_report_has_all_findings(world: World, tmp_path: Path) -> None:
    findings = await findings_of(world, tmp_path)
    assert set(findings) == {
        "versions", "data directory", "engine", "image", "shortcuts", "disk, data", "memory",
        "port, API", "port, relay", "features", "pool",
    }  # fmt: skip
    assert findings["features"].words == ", ".join(NAMES)
    assert findings["memory"].words.startswith("64.0 GB and 8 processors")


async def test_an_unreachable_engine_is_a_finding_and_the_other_checks_run(
    world: World, tmp_path: Path
) -> None:
    findings = await findings_of(world, tmp_path, EngineUnavailable("Start Docker."))
    assert findings["engine"] == Finding("engine", Level.FAIL, "Start Docker.")
    assert "image" not in findings
    assert findings["pool"].level is Level.OK


async def test_a_missing_image_is_a_finding(world: World, tmp_path: Path) -> None:
    world.engine.failing["check_image"] = ImageMissing("chowder-sandbox:1")
    image = (await findings_of(world, tmp_path))["image"]
    assert image.level is Level.FAIL
    assert "chowder-sandbox:1" in image.words


async def test_each_machine_of_a_swarm_is_a_finding(world: World, tmp_path: Path) -> None:
    world.engine.node_list = [
        EngineNode("one", True, True, 3, 8_000_000_000, 2_500_000_000),
        EngineNode("two", False, False, 1, 8_000_000_000, None),
        EngineNode("three", False, False, 0, 8_000_000_000, None, "It gets the sandbox image."),
    ]
    findings = await findings_of(world, tmp_path)
    assert findings["node, one"].words == "3 sandboxes, 2.5 GB of memory free, drained"
    assert findings["node, two"].level is Level.WARN
    assert "its worker does not answer" in findings["node, two"].words
    assert "gets the sandbox image" in findings["node, three"].words
