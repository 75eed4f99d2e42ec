"""Sending archives into sandboxes, and what is made of the answers."""

from __future__ import annotations

import asyncio
import io
import sys
import tarfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from chowder_local.domain import SandboxId
from chowder_local.errors.agents import GatewayUnavailable
from chowder_local.openclaw import pouring
from chowder_local.openclaw.homes import cleaned
from chowder_local.openclaw.pouring import Pouring
from tests.scripted.agents import agent_at, told
from tests.scripted.local_processes import LocalProcesses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

SANDBOX_ID = SandboxId("chowder-1")


class Saying:
    """A program that takes what comes and says what a test wants."""

    complaint = "Traceback\nMemoryError"

    def __init__(self, *said: bytes) -> None:
        self._said = list(said)

    @asynccontextmanager
    async def process(self, _: SandboxId, __: Sequence[str]) -> AsyncIterator[Saying]:
        yield self

    async def write(self, chunk: bytes) -> None:
        pass

    async def close_input(self) -> None:
        pass

    async def exit_code(self) -> int | None:
        return None

    async def read(self) -> bytes:
        if not self._said:
            await asyncio.sleep(0)
        return self._said.pop(0) if self._said else b""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        tar.add(agent_at(tmp_path / "original", "teal").parent, "data")
    raw.seek(0)
    path = tmp_path / "home.tar"
    with path.open("wb") as target:
        cleaned(raw, target, prefix="data/", is_strict=False)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the program runs in sandboxes only")
async def test_an_archive_arrives_whole(tmp_path: Path, archive: Path) -> None:
    spare = agent_at(tmp_path / "spare", "warm-up")
    async with Pouring(LocalProcesses(), str(spare.parent)).into(SANDBOX_ID) as pour:
        await pour(archive)
    assert told(spare) == ["teal"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b'{"poured": false, "words": "it has npm"}\n', "takes a start .*: it has npm"),
        (b'{"error": "OSError: full"}\n', "OSError: full"),
        (b'{"poured": 1}\n', "does not say why"),
        (b"nonsense\n", "ended with: MemoryError"),
        (b"", "ended with: MemoryError"),
        (b"x" * pouring.MAX_ANSWER_BYTES, "ended with: MemoryError"),
    ],
)
async def test_any_other_answer_than_yes_is_a_no(archive: Path, said: bytes, words: str) -> None:
    async with Pouring(Saying(said), "/data").into(SANDBOX_ID) as pour:
        with pytest.raises(GatewayUnavailable, match=words):
            await pour(archive)


async def test_an_answer_that_does_not_come_is_not_waited_for(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pouring, "ANSWER_TIMEOUT_S", 0.0)
    async with Pouring(Saying(), "/data").into(SANDBOX_ID) as pour:
        with pytest.raises(GatewayUnavailable, match="not unpacked in time"):
            await pour(archive)
