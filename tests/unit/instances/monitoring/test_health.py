"""The server's health report."""

import asyncio
import json

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.features.feature import NAMES
from chowder_local.instances.monitoring.health import PROBE_MAX_AGE
from chowder_local.openclaw.shortcuts import STATE_TRANSFER
from tests.scripted.shortcuts import REASON, make_unfit
from tests.scripted.world import World


async def test_the_status_is_ok_while_the_engine_answers(world: World) -> None:
    report = await world.health.report()
    assert report == {
        "status": "ok",
        "version": "1.2.3",
        "openclaw_version": "2026.9.6",
        "image": "chowder-sandbox:1",
        "base_url": "http://127.0.0.1:2469",
        "data_dir": "/somewhere",
        "pid": 42,
        "started_at": "2026-05-04T03:02:01+00:00",
        "features": [*NAMES],
        "engine": {"reachable": True, "version": "Scripted 1.0", "error": None},
        "shortcuts_off": {},
        "relay": {"url": "http://relay.local:2470"},
        "places": 49,
        "nodes": [],
        "boots": {"in_progress": 0, "queued": 0},
        "pool": {"size": 0, "ready": 0, "error": None},
        "instances": {status.value: 0 for status in InstanceStatus},
        "hibernated": 0,
    }
    assert json.loads(json.dumps(report)) == report


async def test_without_the_engine_the_status_is_degraded(world: World) -> None:
    world.engine.failing["version"] = EngineUnavailable("The engine is on holiday.")
    report = await world.health.report()
    assert (report["status"], report["shortcuts_off"]) == ("degraded", None)
    assert report["engine"] == {
        "reachable": False,
        "version": None,
        "error": "The engine is on holiday.",
    }


async def test_shortcuts_that_do_not_fit_are_reported_and_nothing_is_degraded(
    world: World,
) -> None:
    make_unfit(world.engine, STATE_TRANSFER)
    report = await world.health.report()
    assert (report["status"], report["shortcuts_off"]) == ("ok", {STATE_TRANSFER.name: REASON})


async def test_instances_are_counted_by_their_status(world: World) -> None:
    await world.placed(InstanceStatus.RUNNING, 1)
    await world.placed(InstanceStatus.RUNNING, 2)
    await world.placed(InstanceStatus.TERMINATED, 3)
    counts = (await world.health.report())["instances"]
    assert counts == {
        "provisioning": 0,
        "running": 2,
        "stopped": 0,
        "error": 0,
        "terminated": 1,
    }


async def test_without_the_image_the_status_is_degraded(world: World) -> None:
    world.engine.failing["check_image"] = ImageMissing("chowder-local/sandbox:1")
    report = await world.health.report()
    assert report["status"] == "degraded"
    assert report["engine"]["reachable"]
    assert "chowder-local image build" in report["engine"]["error"]


async def test_the_engine_is_asked_at_most_once_a_second(world: World) -> None:
    await asyncio.gather(*(world.health.report() for _ in range(50)))
    asked = ["version", "memory", "check_image"]
    assert [world.engine.made(each) for each in asked] == [1, 1, 1]
    world.engine.failing["version"] = EngineUnavailable("The engine is on holiday.")
    assert (await world.health.report())["status"] == "ok"
    # Counts are always current.
    await world.placed(InstanceStatus.RUNNING)
    assert (await world.health.report())["instances"]["running"] == 1
    world.clock.advance(PROBE_MAX_AGE.total_seconds())
    reports = await asyncio.gather(*(world.health.report() for _ in range(50)))
    assert {each["status"] for each in reports} == {"degraded"}
    assert world.engine.made("version") == 2
