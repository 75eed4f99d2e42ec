"""Logs of containers of a real engine, followed by many at once."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.sandboxes import SandboxMissing
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.labels import sandbox_labels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from docker.models.containers import Container

pytestmark = pytest.mark.docker

STORE_ID = f"test-{secrets.token_hex(4)}"
DEADLINE_S = 30.0
FOLLOWERS = 60
"""More than the threads that everything else shares."""
SCRIPT = "echo said; echo complained >&2; trap 'exit 0' TERM; sleep 300 & wait"


@pytest.fixture
def container() -> Iterator[Container]:
    client = open_client(find_engine(os.environ))
    name = f"chowder-logs-{secrets.token_hex(4)}"
    try:
        made = client.containers.run(
            expected_tag(Settings()),
            ["sh", "-c", SCRIPT],
            entrypoint="",
            name=name,
            detach=True,
            labels=sandbox_labels(STORE_ID, name),
        )
        yield made
        made.remove(force=True)
    finally:
        client.close()


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    address = find_engine(os.environ)
    async with DockerEngine.connect(address, STORE_ID, timeout_s=20, thread_count=2) as engine:
        yield engine


async def test_many_followers_of_a_log_leave_the_threads_to_others(
    engine: DockerEngine, container: Container
) -> None:
    sandbox_id = SandboxId(str(container.name))
    async with asyncio.timeout(DEADLINE_S), AsyncExitStack() as stack:
        logs = [
            await stack.enter_async_context(aclosing(engine.follow_log(sandbox_id, 10)))  # type: ignore[type-var]  # a generator
            for _ in range(FOLLOWERS)
        ]
        read = [bytearray(await anext(log)) for log in logs]
        for log, text in zip(logs, read, strict=True):
            while text.count(b"\n") < 2:
                text += await anext(log)
            assert sorted(text.splitlines()) == [b"complained", b"said"]
        # Each waits for a line that does not come.
        waiting = [asyncio.ensure_future(anext(log, b"")) for log in logs]
        # First what has threads of its own: by then, all of them are waiting.
        assert (await engine.inspect(sandbox_id)).id == sandbox_id
        assert await asyncio.to_thread(lambda: "done") == "done"
        assert await anyio.to_thread.run_sync(lambda: "done") == "done"
        await asyncio.to_thread(container.kill)
        assert await asyncio.gather(*waiting) == [b""] * FOLLOWERS


async def test_a_log_is_followed_only_of_a_sandbox_that_is_there(engine: DockerEngine) -> None:
    with pytest.raises(SandboxMissing):
        await anext(engine.follow_log(SandboxId("chowder-none"), 10))


async def test_older_lines_of_a_log_are_left_out(
    engine: DockerEngine, container: Container
) -> None:
    sandbox_id, now = SandboxId(str(container.name)), datetime.now(UTC)
    earlier, later = now - timedelta(hours=1), now + timedelta(hours=1)
    log = engine.follow_log(sandbox_id, 10, earlier)
    async with aclosing(log), asyncio.timeout(DEADLINE_S):  # type: ignore[type-var]  # a generator
        text = bytearray(await anext(log))
        while text.count(b"\n") < 2:
            text += await anext(log)
    assert sorted((await engine.log_tail(sandbox_id, 10, earlier)).split()) == [
        "complained",
        "said",
    ]
    assert await engine.log_tail(sandbox_id, 10, later) == ""
