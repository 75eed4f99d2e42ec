"""What Docker does not do on demand: pauses that fail, and a call that has no answer."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import requests
from docker.errors import APIError

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.containers import PAUSE_ATTEMPTS, OwnedResources
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.labels import sandbox_labels
from chowder_local.engine.threads import Threads

if TYPE_CHECKING:
    from pathlib import Path

    import docker

STORE_ID, SANDBOX_ID = "store", SandboxId("chowder-1")


class FlakyContainer:
    """A container whose first pauses fail with a status."""

    labels = sandbox_labels(STORE_ID, SANDBOX_ID)

    def __init__(self, failures: int, status: int) -> None:
        self._failures = failures
        self._status = status
        self.pauses = 0

    def pause(self) -> None:
        self.pauses += 1
        if self.pauses <= self._failures:
            response = requests.Response()
            response.status_code = self._status
            raise APIError("no", response, "OCI runtime pause failed: unable to freeze: unknown")


async def pause(container: FlakyContainer) -> None:
    client = SimpleNamespace(containers=SimpleNamespace(get=lambda _: container))
    with Threads(1, "engine") as threads:
        address = EngineAddress("unix:///nowhere", "a test")
        own = OwnedResources(cast("docker.DockerClient", client), STORE_ID)
        engine = DockerEngine(cast("docker.DockerClient", client), address, threads, own, 5.0)
        await engine.pause(SANDBOX_ID)


async def test_a_failed_pause_is_tried_again() -> None:
    container = FlakyContainer(PAUSE_ATTEMPTS - 1, 500)
    await pause(container)
    assert container.pauses == PAUSE_ATTEMPTS


@pytest.mark.parametrize(("status", "pauses"), [(500, PAUSE_ATTEMPTS), (409, 1)])
async def test_a_pause_that_keeps_failing_raises_the_engines_error(
    status: int, pauses: int
) -> None:
    container = FlakyContainer(PAUSE_ATTEMPTS, status)
    with pytest.raises(EngineUnavailable, match="unable to freeze"):
        await pause(container)
    assert container.pauses == pauses


async def test_the_event_loop_goes_on_while_an_engine_that_hangs_is_left(tmp_path: Path) -> None:
    hangs, is_over = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read(4096)
        if b"/version" in request:
            body = b'{"Version": "26.1", "ApiVersion": "1.45"}'
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
        elif request:
            hangs.set()
            await is_over.wait()
        writer.close()
        await writer.wait_closed()

    path = tmp_path / "engine.sock"
    address = EngineAddress(f"unix://{path}", "a test")
    async with await asyncio.start_unix_server(answer, path), AsyncExitStack() as stack:
        connecting = DockerEngine.connect(address, STORE_ID, timeout_s=1.0, thread_count=1)
        engine = await stack.enter_async_context(connecting)
        listing = asyncio.create_task(engine.sandboxes())
        await hangs.wait()
        leaving = asyncio.create_task(stack.aclose())
        turns = 0
        while not leaving.done():
            turns += 1
            await asyncio.sleep(0.01)
        is_over.set()
        assert turns > 10
        with pytest.raises(EngineUnavailable):
            await listing
