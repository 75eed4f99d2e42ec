"""Waiting for gateways, and the messages when they do not start."""

import asyncio
from pathlib import Path

import pytest

from chowder_local.core.domain import SandboxId, SandboxInfo, SandboxState
from chowder_local.core.errors.sandboxes import (
    BootFailed,
    DiskFull,
    EngineSilent,
    EngineUnavailable,
    NodeUnreachable,
)
from chowder_local.core.untrusted_json import MESSAGE_MAX
from chowder_local.instances.lifecycle import boots
from chowder_local.instances.lifecycle.boots import MIN_FREE_DISK_BYTES, significant_lines
from tests.scripted.serving import eventually
from tests.scripted.world import World, open_world

ID = SandboxId("chowder-1")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n  \n\x1b[0m\n", []),
        ("one\ntwo", ["one", "two"]),
        ("1\n2\n3\n4\n5\n6", ["3", "4", "5", "6"]),
        ("fine\nGateway failed to start\nbye", ["Gateway failed to start"]),
        ("\x1b[31mERROR\x1b[0m: bad\r\nok", ["ERROR: bad"]),
        ("error 1\nerror 2\nerror 3\nerror 4\nerror 5", [f"error {n}" for n in (2, 3, 4, 5)]),
        (
            'Invalid config at /data: <root>: Unrecognized key: "foo"\n  at x.js:1\n',
            ['Invalid config at /data: <root>: Unrecognized key: "foo"'],
        ),
        ("write: No space left on device\nretrying", ["write: No space left on device"]),
        ("Refusing to bind to lan", ["Refusing to bind to lan"]),
        ("error " + "x" * MESSAGE_MAX, ["error " + "x" * (MESSAGE_MAX - 6)]),
    ],
)  # fmt: skip
def test_the_last_lines_of_a_log_that_mention_an_error_are_quoted(
    text: str, lines: list[str]
) -> None:
    assert significant_lines(text) == lines


async def test_the_address_of_a_started_gateway_is_returned(world: World) -> None:
    world.engine.put(ID, SandboxState.RUNNING)
    sandbox = await world.engine.inspect(ID)
    assert await world.readiness.wait(sandbox) == world.engine.address(ID)


async def test_a_gateway_that_starts_later_is_waited_for(world: World) -> None:
    world.gateway.is_started = False
    world.engine.put(ID, SandboxState.RUNNING)
    sandbox = await world.engine.inspect(ID)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(world.readiness.wait(sandbox))
        await eventually(lambda: world.gateway.probes > 1, "it was asked again")
        world.gateway.is_started = True
    assert waiting.result() == world.engine.address(ID)


@pytest.mark.parametrize("away", [NodeUnreachable("node3"), EngineSilent("It restarts.")])
async def test_an_engine_that_is_away_for_a_moment_ends_no_boot(
    away: EngineUnavailable, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boots, "INSPECT_EVERY", 1)
    world.gateway.is_started = False
    world.engine.put(ID, SandboxState.RUNNING)
    sandbox = await world.engine.inspect(ID)
    world.engine.failing["inspect"] = away
    before = len(world.engine.calls)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(world.readiness.wait(sandbox))
        await eventually(lambda: len(world.engine.calls) > before + 1, "it was looked for again")
        del world.engine.failing["inspect"]
        world.gateway.is_started = True
    assert waiting.result() == world.engine.address(ID)


async def test_a_node_that_stays_away_ends_a_boot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boots, "INSPECT_EVERY", 1)
    monkeypatch.setattr(boots, "AWAY_TIMEOUT_S", 0.0)
    world.gateway.is_started = False
    world.engine.put(ID, SandboxState.RUNNING)
    sandbox = await world.engine.inspect(ID)
    world.engine.failing["inspect"] = NodeUnreachable("node3")
    with pytest.raises(NodeUnreachable, match="node3 does not answer"):
        await world.readiness.wait(sandbox)


@pytest.mark.parametrize(
    ("sandbox", "ending"),
    [
        (SandboxInfo(ID, SandboxState.MISSING), "is gone from the engine"),
        (SandboxInfo(ID, SandboxState.EXITED, exit_code=78), "ended with exit code 78"),
        (
            SandboxInfo(ID, SandboxState.EXITED, is_oom_killed=True, memory_limit_mb=640),
            "ran out of memory (its limit is 640 MB; raise CHOWDER_MEMORY_LIMIT_MB)",
        ),
        (SandboxInfo(ID, SandboxState.PAUSED, "http://x"), "is paused instead of running"),
        (SandboxInfo(ID, SandboxState.CREATED), "is created instead of running"),
    ],
)
async def test_a_sandbox_that_does_not_run_fails_at_once_with_its_ending(
    world: World, sandbox: SandboxInfo, ending: str
) -> None:
    world.engine.log = "starting\nGateway failed to start: Invalid config\n"
    with pytest.raises(BootFailed) as failed:
        await world.readiness.wait(sandbox)
    assert str(failed.value) == (
        f"The sandbox {ending}. Its log says: Gateway failed to start: Invalid config"
    )


async def test_an_empty_log_is_reported_as_empty(world: World) -> None:
    with pytest.raises(BootFailed, match="Its log says nothing"):
        await world.readiness.wait(SandboxInfo(ID, SandboxState.EXITED, exit_code=1))


@pytest.mark.parametrize(
    "log",
    [
        "write failed: ENOSPC",
        "tar: no space left on device",
        "state is unreadable: database or disk is full (SQLite errcode=13)",
    ],
)
async def test_a_full_disk_is_reported_with_its_remedy(world: World, log: str) -> None:
    world.engine.log = log
    with pytest.raises(DiskFull) as failed:
        await world.readiness.wait(SandboxInfo(ID, SandboxState.EXITED, exit_code=78))
    assert str(failed.value) == (
        "The sandbox ended with exit code 78, as its disk is full. Make room on the engine's "
        f"disk: 'docker system df' shows what takes it. Its log says: {log}"
    )


async def test_a_disk_that_was_too_full_for_a_log_is_reported_too(world: World) -> None:
    world.engine.disk_free = MIN_FREE_DISK_BYTES - 1
    world.engine.put(ID, SandboxState.EXITED)
    with pytest.raises(DiskFull, match="as its disk is full"):
        await world.readiness.wait(await world.engine.inspect(ID))


async def test_an_unreadable_log_does_not_hide_how_the_sandbox_ended(world: World) -> None:
    world.engine.failing["log_tail"] = EngineUnavailable("The engine does not answer.")
    with pytest.raises(BootFailed, match=r"exit code 1\. The engine does not answer"):
        await world.readiness.wait(SandboxInfo(ID, SandboxState.EXITED, exit_code=1))


async def test_a_container_that_dies_during_the_wait_ends_it(world: World) -> None:
    world.gateway.is_started = False
    world.engine.put(ID, SandboxState.RUNNING)
    sandbox = await world.engine.inspect(ID)
    world.engine.put(ID, SandboxState.EXITED, exit_code=137, is_oom_killed=True)
    with pytest.raises(BootFailed, match="ran out of memory"):
        await world.readiness.wait(sandbox)


async def test_an_address_without_a_listener_counts_as_not_started(tmp_path: Path) -> None:
    async with open_world(tmp_path, boot_timeout_s=0.3) as world:
        world.engine.put(ID, SandboxState.RUNNING, gateway_url="http://127.0.0.1:9")
        with pytest.raises(BootFailed, match="was not ready"):
            await world.readiness.wait(await world.engine.inspect(ID))
