"""Homes as archives, taken from volumes and put on others by a real engine."""

from __future__ import annotations

import asyncio
import io
import os
import queue
import secrets
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from docker.errors import NotFound

from chowder_local.core.domain import SandboxId, SandboxSpec, SandboxState
from chowder_local.core.errors.requests import ArchiveRefused
from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxMissing
from chowder_local.engine import specs, volume_archives
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.labels import store_filter
from chowder_local.engine.specs import Limits, SandboxDefaults
from chowder_local.engine.store_resources import remove_store
from chowder_local.openclaw.home.sanitize import sanitize_home
from tests.e2e.quick_image import quick_image
from tests.scripted.homes import contents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.docker

STORE_ID = f"test-{secrets.token_hex(4)}"
LIMITS = Limits(memory_mb=128, cpus=1.0, pids=32)
SANDBOX, COPY = (SandboxId(f"chowder-{secrets.token_hex(6)}") for _ in range(2))


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """One whose gateway is not what is looked at, and starts at once."""
    with closing(open_client(find_engine(os.environ))) as client, quick_image(client) as tag:
        yield tag


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    address = find_engine(os.environ)
    async with DockerEngine.connect(address, STORE_ID, timeout_s=20, thread_count=2) as engine:
        yield engine
    remove_store(STORE_ID, os.environ)


def names_in(home: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(home)) as tar:
        return set(tar.getnames())


async def test_a_home_goes_from_one_volume_to_another(
    engine: DockerEngine, image: str, tmp_path: Path
) -> None:
    await engine.prepare(SandboxDefaults(image, LIMITS))
    await engine.boot(SandboxSpec(SANDBOX, {"workspace.md": b"hello"}))
    path, home = tmp_path / "home", b""
    note = "data/.openclaw/workspace.md"
    for state in (SandboxState.PAUSED, SandboxState.MISSING):
        if state is SandboxState.PAUSED:
            await engine.pause(SANDBOX)
        else:
            client = open_client(find_engine(os.environ))
            client.containers.get(SANDBOX).remove(force=True)
            client.close()
        assert (await engine.inspect(SANDBOX)).state is state
        home = await engine.read_home(SANDBOX, b"".join)
        assert note in names_in(home)
        assert {name.split("/")[0] for name in names_in(home)} == {"data"}
    with path.open("wb") as target:
        sanitize_home([home], target, prefix="data/", is_strict=False)
    await engine.boot(SandboxSpec(COPY, {"more.md": b"mine"}, home=path))
    home = await engine.read_home(COPY, b"".join)
    with tarfile.open(fileobj=io.BytesIO(home)) as tar:
        entry = tar.getmember(note)
        file = tar.extractfile(entry)
        assert (entry.uid, entry.gid, file and file.read()) == (1000, 1000, b"hello")
    assert "data/.openclaw/more.md" in names_in(home)
    # What was made for a copy alone is gone.
    client = open_client(find_engine(os.environ))
    try:
        found = client.containers.list(all=True, filters=store_filter(STORE_ID))
        assert [each.name for each in found] == [COPY]
    finally:
        client.close()


async def test_what_is_not_there_is_not_copied(
    engine: DockerEngine, image: str, tmp_path: Path
) -> None:
    with pytest.raises(EngineUnavailable, match="not prepared"):
        await engine.read_home(SANDBOX, b"".join)
    await engine.prepare(SandboxDefaults(image, LIMITS))
    with pytest.raises(SandboxMissing):
        await engine.read_home(SANDBOX, b"".join)
    with pytest.raises(SandboxMissing, match="cannot be read: No such file"):
        await engine.boot(SandboxSpec(COPY, {}, home=tmp_path / "gone"))
    client = open_client(find_engine(os.environ))
    try:
        # Another's, even if it is called like one of ours.
        client.volumes.create(SANDBOX)
        with pytest.raises(SandboxMissing):
            await engine.read_home(SANDBOX, b"".join)
    finally:
        client.volumes.get(SANDBOX).remove()
        client.close()


async def test_what_is_made_of_a_home_may_fail_in_its_own_words(
    engine: DockerEngine, image: str
) -> None:
    def refuse(chunks: Iterator[bytes]) -> None:
        next(chunks)
        raise ArchiveRefused("it is too large.")

    await engine.prepare(SandboxDefaults(image, LIMITS))
    await engine.boot(SandboxSpec(SANDBOX, {"a": bytes(100_000)}))
    with pytest.raises(ArchiveRefused, match="too large"):
        await engine.read_home(SANDBOX, refuse)
    # The engine is none the worse for it.
    assert "data/.openclaw/a" in names_in(await engine.read_home(SANDBOX, b"".join))


async def test_an_archive_is_unpacked_in_a_sandbox_while_it_is_read(
    engine: DockerEngine, image: str
) -> None:
    await engine.prepare(SandboxDefaults(image, LIMITS))
    for each in (SANDBOX, COPY):
        await engine.boot(SandboxSpec(each, {"a": each.encode()}))
    chunks: queue.Queue[bytes] = queue.Queue(1)

    def pass_on(source: Iterator[bytes]) -> None:
        for chunk in source:
            chunks.put(chunk)
        chunks.put(b"")

    async with asyncio.TaskGroup() as group:
        group.create_task(engine.read_home(SANDBOX, pass_on))
        group.create_task(engine.unpack(COPY, specs.STATE_DIR, iter(chunks.get, b"")))
    home = await engine.read_home(COPY, b"".join)
    found = contents(home, "data/.openclaw/")
    assert (found["a"], found["data/.openclaw/a"]) == (COPY.encode(), SANDBOX.encode())


async def test_an_archive_that_breaks_off_is_told_in_its_own_words(
    engine: DockerEngine, image: str
) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(512)
        raise SandboxMissing("It came to nothing.")

    await engine.prepare(SandboxDefaults(image, LIMITS))
    await engine.boot(SandboxSpec(SANDBOX))
    with pytest.raises(SandboxMissing, match="came to nothing"):
        await engine.unpack(SANDBOX, specs.STATE_DIR, broken())
    with pytest.raises(SandboxMissing):
        await engine.unpack(COPY, specs.STATE_DIR, [])


async def test_what_a_program_says_of_a_home_is_bounded_in_length_and_time(
    engine: DockerEngine, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    with tarfile.open(source, "w") as tar:
        tar.addfile(tarfile.TarInfo("there"))
    await engine.prepare(SandboxDefaults(image, LIMITS))
    program = "import sys\nfor _ in range(200): sys.stdout.write('x' * 500_000)\nsys.exit(%d)"
    said = await engine.examine_home(program % 0, source, {}, "v1")
    assert 0 < len(said) < 2 * volume_archives.OUTPUT_MB * 1_000_000
    with pytest.raises(EngineUnavailable, match=r"failed on an agent's home: x{2000}\.$"):
        await engine.examine_home(program % 1, source, {}, "v1")
    monkeypatch.setattr(volume_archives, "PROGRAM_TIMEOUT_S", 1.0)
    with pytest.raises(EngineUnavailable, match="not ended within 1 seconds"):
        await engine.examine_home("import time; time.sleep(600)", source, {}, "v1")
    with closing(open_client(find_engine(os.environ))) as client:
        assert client.containers.list(all=True, filters=store_filter(STORE_ID)) == []


async def test_a_program_changes_a_home_where_it_reaches_nothing(
    engine: DockerEngine, image: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    with tarfile.open(source, "w") as tar:
        tar.addfile(tarfile.TarInfo("there"))
    program = (
        "import os, socket, sys; os.chdir(sys.argv[1]); os.rename('there', 'changed');"
        "assert os.getuid() == 1000 and os.listdir('/sys/class/net') == ['lo']"
    )
    with pytest.raises(EngineUnavailable, match="not prepared"):
        await engine.rework_home(program, source, b"".join)
    await engine.prepare(SandboxDefaults(image, LIMITS))
    with closing(open_client(find_engine(os.environ))) as client:
        volumes: list[str] = []

        def read(chunks: Iterator[bytes]) -> bytes:
            (container,) = client.containers.list(all=True, filters=store_filter(STORE_ID))
            volumes.extend(mount["Name"] for mount in container.attrs["Mounts"])
            return b"".join(chunks)

        home = await engine.rework_home(program, source, read)
        assert names_in(home) >= {"data/changed"}
        assert "data/there" not in names_in(home)
        with pytest.raises(EngineUnavailable, match="ZeroDivisionError"):
            await engine.rework_home("1/0", source, b"".join)
        assert client.containers.list(all=True, filters=store_filter(STORE_ID)) == []
        (volume,) = volumes
        with pytest.raises(NotFound):
            client.volumes.get(volume)
