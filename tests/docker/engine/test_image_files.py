"""Files of the image, read by a real engine."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.labels import store_filter
from chowder_local.engine.specs import Limits, SandboxDefaults
from chowder_local.engine.store_resources import remove_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.docker

STORE_ID = f"test-{secrets.token_hex(4)}"
LIMITS = Limits(memory_mb=64, cpus=1.0, pids=16)


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    address = find_engine(os.environ)
    async with DockerEngine.connect(address, STORE_ID, timeout_s=20, thread_count=2) as engine:
        yield engine
    remove_store(STORE_ID, os.environ)


async def test_a_file_of_the_image_is_read_and_nothing_is_left_of_it(engine: DockerEngine) -> None:
    await engine.prepare(SandboxDefaults(expected_tag(Settings()), LIMITS))
    # A link, a folder, and nothing at all: none of them is a file.
    for path in ("/usr/local/bin/openclaw", "/etc", "/no/such/file"):
        assert await engine.file_of_image(path) is None
    assert b"openclaw" in (await engine.file_of_image("/etc/passwd") or b"")
    client = open_client(find_engine(os.environ))
    try:
        assert client.containers.list(all=True, filters=store_filter(STORE_ID)) == []
    finally:
        client.close()


async def test_before_the_image_is_known_nothing_can_be_read(engine: DockerEngine) -> None:
    with pytest.raises(EngineUnavailable, match="not prepared"):
        await engine.file_of_image("/etc/passwd")
