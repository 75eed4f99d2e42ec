"""Away with a sandbox on a real engine: its own container and volume, and nothing of others."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from docker.errors import NotFound

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.settings import Settings
from chowder_local.engine import containers as own_module
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.labels import sandbox_labels, store_labels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import docker
    from docker.models.containers import Container

pytestmark = pytest.mark.docker

IMAGE = expected_tag(Settings())
STORE_ID = f"test-{secrets.token_hex(4)}"


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    client = open_client(find_engine(os.environ))
    try:
        yield client
        for volume in client.volumes.list(filters={"name": f"{STORE_ID}-"}):
            volume.remove(force=True)
    finally:
        client.close()


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    address = find_engine(os.environ)
    async with DockerEngine.connect(address, STORE_ID, timeout_s=5, thread_count=2) as engine:
        yield engine


async def test_a_volume_goes_with_its_sandbox_and_another_stays(
    client: docker.DockerClient, engine: DockerEngine
) -> None:
    goes, stays = (SandboxId(f"{STORE_ID}-{name}") for name in ("goes", "stays"))
    for name in (goes, stays):
        client.volumes.create(name, labels=sandbox_labels(STORE_ID, name))
    await engine.remove(goes)
    # And once more: there is nothing to do.
    await engine.remove(goes)
    assert await engine.volumes() == {stays}


@pytest.mark.parametrize("labels", [{}, store_labels("somebody-elses")], ids=["none", "others"])
async def test_a_volume_of_that_name_that_is_not_ours_is_left_alone(
    client: docker.DockerClient, engine: DockerEngine, labels: dict[str, str]
) -> None:
    name = SandboxId(f"{STORE_ID}-{secrets.token_hex(4)}")
    client.volumes.create(name, labels=labels)
    await engine.remove(name)
    assert client.volumes.get(name).name == name


@pytest.fixture
def held(client: docker.DockerClient) -> Iterator[tuple[SandboxId, Container]]:
    """A sandbox's volume, and a container that has it."""
    name = SandboxId(f"{STORE_ID}-{secrets.token_hex(4)}")
    client.volumes.create(name, labels=sandbox_labels(STORE_ID, name))
    holder = client.containers.create(
        IMAGE, ["true"], network_mode="none", volumes={str(name): {"bind": "/data", "mode": "ro"}}
    )
    yield name, holder
    with suppress(NotFound):
        holder.remove(force=True)


async def test_a_volume_that_a_container_has_for_a_moment_longer_goes_in_the_same_call(
    held: tuple[SandboxId, Container], engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, holder = held
    # Not in the module itself: other threads sleep, too.
    waiting = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: holder.remove())
    monkeypatch.setattr(own_module, "time", waiting)
    await engine.remove(name)
    assert name not in await engine.volumes()


async def test_a_volume_that_somebody_keeps_is_told(
    held: tuple[SandboxId, Container], engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_module, "IN_USE_TIMEOUT_S", 0.0)
    with pytest.raises(EngineUnavailable, match="in use"):
        await engine.remove(held[0])
