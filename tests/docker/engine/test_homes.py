"""Homes as archives, taken from volumes and put on others by a real engine."""

from __future__ import annotations

import os
import secrets
import tarfile
from typing import TYPE_CHECKING

import pytest

from chowder_local.domain import SandboxId, SandboxSpec, SandboxState
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.labels import store_filter
from chowder_local.engine.specs import Limits
from chowder_local.engine.sweep import remove_store
from chowder_local.errors.requests import ArchiveRefused
from chowder_local.errors.sandboxes import EngineUnavailable, SandboxMissing
from chowder_local.openclaw.homes import cleaned
from chowder_local.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.docker

STORE_ID = f"test-{secrets.token_hex(4)}"
LIMITS = Limits(memory_mb=64, cpus=1.0, pids=32)
SANDBOX, COPY = (SandboxId(f"chowder-{secrets.token_hex(6)}") for _ in range(2))
NO_LIMIT = 10**9


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    address = find_engine(os.environ)
    async with DockerEngine.connect(address, STORE_ID, timeout_s=20, thread_count=2) as engine:
        yield engine
    remove_store(STORE_ID, os.environ)


def names_in(path: Path) -> set[str]:
    with tarfile.open(path) as tar:
        return set(tar.getnames())


async def test_a_home_goes_from_one_volume_to_another(engine: DockerEngine, tmp_path: Path) -> None:
    await engine.prepare(expected_tag(Settings()), LIMITS, None, {})
    await engine.boot(SandboxSpec(SANDBOX, {"workspace.md": b"hello"}))
    raw, home = tmp_path / "raw", tmp_path / "home"
    note = "data/.openclaw/workspace.md"
    for state in (SandboxState.PAUSED, SandboxState.MISSING):
        if state is SandboxState.PAUSED:
            await engine.pause(SANDBOX)
        else:
            client = open_client(find_engine(os.environ))
            client.containers.get(SANDBOX).remove(force=True)
            client.close()
        assert (await engine.inspect(SANDBOX)).state is state
        await engine.save_home(SANDBOX, raw, NO_LIMIT)
        assert note in names_in(raw)
        assert {name.split("/")[0] for name in names_in(raw)} == {"data"}
    with raw.open("rb") as source, home.open("wb") as target:
        cleaned(source, target, prefix="data/", is_strict=False)
    await engine.boot(SandboxSpec(COPY, {"more.md": b"mine"}, home=home))
    await engine.save_home(COPY, raw, NO_LIMIT)
    with tarfile.open(raw) as tar:
        entry = tar.getmember(note)
        file = tar.extractfile(entry)
        assert (entry.uid, entry.gid, file and file.read()) == (1000, 1000, b"hello")
    assert "data/.openclaw/more.md" in names_in(raw)
    # What was made for a copy alone is gone.
    client = open_client(find_engine(os.environ))
    try:
        found = client.containers.list(all=True, filters=store_filter(STORE_ID))
        assert [each.name for each in found] == [COPY]
    finally:
        client.close()


async def test_what_is_not_there_or_too_large_is_not_copied(
    engine: DockerEngine, tmp_path: Path
) -> None:
    with pytest.raises(EngineUnavailable, match="not prepared"):
        await engine.save_home(SANDBOX, tmp_path / "raw", NO_LIMIT)
    await engine.prepare(expected_tag(Settings()), LIMITS, None, {})
    with pytest.raises(SandboxMissing):
        await engine.save_home(SANDBOX, tmp_path / "raw", NO_LIMIT)
    client = open_client(find_engine(os.environ))
    try:
        # Another's, even if it is called like one of ours.
        client.volumes.create(SANDBOX)
        with pytest.raises(SandboxMissing):
            await engine.save_home(SANDBOX, tmp_path / "raw", NO_LIMIT)
    finally:
        client.volumes.get(SANDBOX).remove()
        client.close()
    await engine.boot(SandboxSpec(SANDBOX, {"a": bytes(100_000)}))
    with pytest.raises(ArchiveRefused, match="more than 1000 bytes"):
        await engine.save_home(SANDBOX, tmp_path / "raw", 1000)


async def test_a_program_changes_a_home_where_it_reaches_nothing(
    engine: DockerEngine, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with tarfile.open(source, "w") as tar:
        tar.addfile(tarfile.TarInfo("there"))
    program = (
        "import os, socket, sys; os.chdir(sys.argv[1]); os.rename('there', 'changed');"
        "assert os.getuid() == 1000 and os.listdir('/sys/class/net') == ['lo']"
    )
    with pytest.raises(EngineUnavailable, match="not prepared"):
        await engine.rework_home(program, source, target, NO_LIMIT)
    await engine.prepare(expected_tag(Settings()), LIMITS, None, {})
    await engine.rework_home(program, source, target, NO_LIMIT)
    assert names_in(target) >= {"data/changed"}
    assert "data/there" not in names_in(target)
    with pytest.raises(EngineUnavailable, match="ZeroDivisionError"):
        await engine.rework_home("1/0", source, target, NO_LIMIT)
    client = open_client(find_engine(os.environ))
    try:
        assert client.containers.list(all=True, filters=store_filter(STORE_ID)) == []
    finally:
        client.close()
