"""Sandboxes that are frozen and go on, and those that end, on a real engine."""

from __future__ import annotations

import os
import secrets
from contextlib import closing
from typing import TYPE_CHECKING

import docker
import pytest

from chowder_local.core.domain import SandboxId, SandboxSpec, SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxMissing
from chowder_local.engine.connection import find_engine
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.specs import Limits, SandboxDefaults
from chowder_local.engine.store_resources import remove_store
from tests.e2e.quick_image import quick_image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.docker

STORE_ID = f"test-{secrets.token_hex(4)}"
LIMITS = Limits(memory_mb=512, cpus=1.0, pids=32)
SANDBOX = SandboxId(f"chowder-{secrets.token_hex(6)}")


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """One in which something runs that nobody has to configure."""
    with closing(docker.from_env()) as client, quick_image(client) as tag:
        yield tag


@pytest.fixture
async def engine(image: str) -> AsyncIterator[DockerEngine]:
    address = find_engine(os.environ)
    async with DockerEngine.connect(address, STORE_ID, timeout_s=20, thread_count=2) as engine:
        await engine.prepare(SandboxDefaults(image, LIMITS))
        yield engine
    remove_store(STORE_ID, os.environ)


async def test_what_is_frozen_goes_on_and_what_goes_on_is_left_alone(engine: DockerEngine) -> None:
    await engine.boot(SandboxSpec(SANDBOX, {}))
    await engine.pause(SANDBOX)
    assert (await engine.inspect(SANDBOX)).state is SandboxState.PAUSED
    for _ in range(2):
        await engine.unpause(SANDBOX)
        assert (await engine.inspect(SANDBOX)).state is SandboxState.RUNNING
    await engine.pause(SANDBOX)
    await engine.release(SANDBOX)
    # Nobody is to take one that has ended for one that goes on.
    with pytest.raises(EngineUnavailable):
        await engine.unpause(SANDBOX)
    await engine.remove(SANDBOX)
    with pytest.raises(SandboxMissing):
        await engine.unpause(SANDBOX)


async def test_the_processes_of_a_sandbox_begin_with_the_containers_own(
    engine: DockerEngine,
) -> None:
    await engine.boot(SandboxSpec(SANDBOX, {}))
    assert not any("sleep" in each for each in await engine.processes(SANDBOX))
    with closing(docker.from_env()) as client:
        # Its parent has forked it when this returns, so it has a command line by then: a program
        # that only begins has none to read yet.
        behind = ["sh", "-c", "(sleep 600; exit) >/dev/null 2>&1 &"]
        assert client.containers.get(SANDBOX).exec_run(behind).exit_code == 0
    first, *others = await engine.processes(SANDBOX)
    assert "sleep" not in first
    assert any("sleep 600" in each for each in others)
    await engine.remove(SANDBOX)
    with pytest.raises(SandboxMissing):
        await engine.processes(SANDBOX)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_one_that_somebody_ends_is_told_from_one_that_ends_by_itself(
    engine: DockerEngine, how: str
) -> None:
    with closing(docker.from_env()) as client:
        await engine.boot(SandboxSpec(SANDBOX, {}))
        container = client.containers.get(SANDBOX)
        # As an agent does that ends its own gateway, once its init has begun that.
        kill = "until kill -KILL $(cat /proc/1/task/1/children); do :; done"
        container.exec_run(["sh", "-c", kill])
        container.wait(timeout=30)
        by_itself = await engine.inspect(SANDBOX)
        container.start()
        getattr(container, how)()
        by_somebody = await engine.inspect(SANDBOX)
    assert {by_itself.state, by_somebody.state} == {SandboxState.EXITED}
    assert (by_itself.is_signalled, by_somebody.is_signalled) == (False, True)
