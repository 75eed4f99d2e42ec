"""Programs inside a container of a real engine: bytes both ways, and how they end."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import secrets
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxMissing, SandboxPaused
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.container_exec import start_exec
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.labels import sandbox_labels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from docker.models.containers import Container

pytestmark = pytest.mark.docker

STORE_ID = f"test-{secrets.token_hex(4)}"
MEGABYTE = secrets.token_bytes(1024 * 1024)


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """What a program can be run in; it is the sandbox's image, but no agent."""
    client = open_client(find_engine(os.environ))
    name = f"chowder-processes-{secrets.token_hex(4)}"
    try:
        made = client.containers.run(
            expected_tag(Settings()),
            ["sleep", "300"],
            entrypoint="",
            name=name,
            detach=True,
            init=True,
            labels=sandbox_labels(STORE_ID, name),
        )
        yield made
        made.remove(force=True)
    finally:
        client.close()


@pytest.fixture
def sandbox_id(container: Container) -> SandboxId:
    return SandboxId(str(container.name))


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    address = find_engine(os.environ)
    async with DockerEngine.connect(address, STORE_ID, timeout_s=5, thread_count=2) as engine:
        yield engine


async def heard(engine: DockerEngine, sandbox_id: SandboxId, script: str) -> bytes:
    """What a shell script answers to one line."""
    said = bytearray()
    async with engine.process(sandbox_id, ["sh", "-c", script]) as process:
        await process.write(b"go\n")
        while chunk := await process.read():
            said += chunk
    return bytes(said)


async def test_a_program_gets_and_gives_every_byte(
    engine: DockerEngine, sandbox_id: SandboxId
) -> None:
    async with engine.process(sandbox_id, ["head", "-c", "16384"]) as process:
        await process.write(bytes(range(256)) * 64)
        said = b""
        while chunk := await process.read():
            said += chunk
        assert said == bytes(range(256)) * 64


async def test_much_goes_in_as_fast_as_it_is_read(
    engine: DockerEngine, sandbox_id: SandboxId
) -> None:
    async with engine.process(sandbox_id, ["sh", "-c", "head -c 33554432 | sha256sum"]) as process:
        digest = hashlib.sha256()
        for _ in range(32):
            await process.write(MEGABYTE)
            digest.update(MEGABYTE)
        assert (await process.read()).split()[0].decode() == digest.hexdigest()


async def test_much_comes_out_whole(engine: DockerEngine, sandbox_id: SandboxId) -> None:
    said = await heard(engine, sandbox_id, "read line; head -c 33554432 /dev/zero")
    assert len(said) == 32 * len(MEGABYTE)


async def test_it_runs_as_the_agents_user_without_rights(
    engine: DockerEngine, sandbox_id: SandboxId
) -> None:
    assert await heard(engine, sandbox_id, "read line; id -u; id -g") == b"1000\n1000\n"


async def test_complaints_are_told_from_answers(
    engine: DockerEngine, sandbox_id: SandboxId
) -> None:
    command = ["sh", "-c", "read line; echo bad >&2; echo good"]
    async with engine.process(sandbox_id, command) as process:
        await process.write(b"go\n")
        assert await process.read() == b"good\n"
        assert await process.read() == b""
        assert process.stderr_tail == "bad"


async def test_whoever_leaves_ends_the_programs_input(
    engine: DockerEngine, sandbox_id: SandboxId
) -> None:
    script = "mkfifo /tmp/told; read line; echo on; cat >/dev/null; echo ended > /tmp/told"
    async with engine.process(sandbox_id, ["sh", "-c", script]) as process:
        await process.write(b"go\n")
        assert await process.read() == b"on\n"
    assert await heard(engine, sandbox_id, "read line; cat /tmp/told") == b"ended\n"


async def test_a_program_that_does_not_move_is_given_up(sandbox_id: SandboxId) -> None:
    address = find_engine(os.environ)
    async with (
        DockerEngine.connect(address, STORE_ID, timeout_s=0.5, thread_count=2) as engine,
        engine.process(sandbox_id, ["sleep", "60"]) as process,
    ):
        with pytest.raises(EngineUnavailable, match="sent and read no data"):
            await process.read()


async def test_a_paused_sandbox_runs_nothing(
    engine: DockerEngine, sandbox_id: SandboxId, container: Container
) -> None:
    container.pause()
    try:
        with pytest.raises(SandboxPaused):
            async with engine.process(sandbox_id, ["true"]):
                pytest.fail("it ran")
    finally:
        container.unpause()


async def test_a_sandbox_that_was_paused_a_moment_ago_runs_nothing(container: Container) -> None:
    container.reload()
    assert container.client is not None
    container.client.api.pause(str(container.id))
    try:
        with ExitStack() as stack, pytest.raises(SandboxPaused):
            start_exec(container.client, container, ["true"], stack)
    finally:
        container.unpause()


async def test_a_sandbox_that_is_gone_runs_nothing(engine: DockerEngine) -> None:
    with pytest.raises(SandboxMissing):
        async with engine.process(SandboxId("chowder-nowhere"), ["true"]):
            pytest.fail("it ran")


async def test_another_stores_sandbox_is_left_alone(sandbox_id: SandboxId) -> None:
    address = find_engine(os.environ)
    async with DockerEngine.connect(address, "other", timeout_s=5, thread_count=1) as engine:
        with pytest.raises(EngineUnavailable, match="created by another program"):
            async with engine.process(sandbox_id, ["true"]):
                pytest.fail("it ran")


async def test_a_program_whose_caller_has_gone_while_it_began_is_left_at_once(
    engine: DockerEngine, sandbox_id: SandboxId, container: Container
) -> None:
    async def talk() -> None:
        async with engine.process(sandbox_id, ["sh", "-c", "read line; : nobody-speaks"]):
            raise AssertionError("it was begun for somebody")

    gc.disable()
    try:
        talking = asyncio.create_task(talk())
        # It is on its way to the engine, in a thread that cannot be stopped.
        await asyncio.sleep(0)
        talking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await talking
        until_s = time.monotonic() + 10
        while "nobody-speaks" in str(container.top()):
            assert time.monotonic() < until_s, container.top()
    finally:
        gc.enable()
