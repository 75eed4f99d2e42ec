"""State transfers: archives go into sandboxes, and the program's answers are checked."""

from __future__ import annotations

import asyncio
import io
import sys
import tarfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.openclaw.home import state_transfer as module
from chowder_local.openclaw.home.sanitize import sanitize_home
from chowder_local.openclaw.home.state_transfer import StateTransfers
from tests.scripted.agents import agent_at, first_column
from tests.scripted.local_processes import LocalProcesses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path

SANDBOX_ID = SandboxId("chowder-1")
READY, STAGED = b"{}\n", b'{"staged": "/data/new"}\n'
linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="the program runs in sandboxes only"
)


class Answering:
    """A program that discards its input and answers with the lines of a test."""

    stderr_tail = "Traceback\nMemoryError"

    def __init__(self, *answer: bytes) -> None:
        self.answer = [READY, STAGED, *answer]
        self.started = self.ended = 0
        self.unpacked: list[tuple[str, bytes]] = []

    @asynccontextmanager
    async def process(self, _: SandboxId, __: Sequence[str]) -> AsyncIterator[Answering]:
        self.started += 1
        try:
            yield self
        finally:
            self.ended += 1

    async def unpack(self, _: SandboxId, folder: str, archive: Iterable[bytes]) -> None:
        self.unpacked.append((folder, b"".join(archive)))

    async def write(self, chunk: bytes) -> None:
        pass

    async def read(self) -> bytes:
        if not self.answer:
            await asyncio.sleep(0)
        return self.answer.pop(0) if self.answer else b""


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    raw, target = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        tar.add(agent_at(tmp_path / "original", "teal").parent, "data")
    sanitize_home([raw.getvalue()], target, prefix="data/", is_strict=False)
    return target.getvalue()


@linux_only
@pytest.mark.parametrize("is_prepared", [True, False])
async def test_an_archive_arrives_whole(
    tmp_path: Path, archive: bytes, *, is_prepared: bool
) -> None:
    warm_sandbox = agent_at(tmp_path / "warm sandbox", "warm-up")
    programs = LocalProcesses()
    async with StateTransfers(programs, str(warm_sandbox.parent)) as state_transfers:
        if is_prepared:
            await state_transfers.prepare(SANDBOX_ID)
        assert programs.running == is_prepared
        async with state_transfers.open(SANDBOX_ID) as transfer:
            assert programs.running == 1
            await transfer.unpack([archive[:5000], archive[5000:]])
            await transfer.check()
            await transfer.apply()
            await transfer.sync()
    assert first_column(warm_sandbox) == ["teal"]
    assert (programs.running, programs.most_running) == (0, 1)
    assert list((warm_sandbox / "tmp").iterdir()) == []


@linux_only
async def test_unused_programs_end(tmp_path: Path) -> None:
    programs = LocalProcesses()
    async with StateTransfers(programs, str(tmp_path)) as state_transfers:
        for number in range(3):
            await state_transfers.prepare(SandboxId(f"chowder-{number}"))
        await state_transfers.prepare(SandboxId("chowder-0"))
        assert programs.running == 3
        await state_transfers.forget(SandboxId("chowder-1"))
        await state_transfers.forget(SandboxId("chowder-1"))
        assert programs.running == 2
    assert programs.running == 0


async def test_a_lost_program_is_replaced() -> None:
    programs = Answering(b"", READY, STAGED, b'{"done": true}\n')
    programs.answer.remove(STAGED)
    async with StateTransfers(programs, "/data") as state_transfers:
        await state_transfers.prepare(SANDBOX_ID)
        async with state_transfers.open(SANDBOX_ID) as transfer:
            assert (programs.started, programs.ended) == (2, 1)
            await transfer.unpack([b"an ", b"archive"])
            await transfer.apply()
    assert programs.unpacked == [("/data/new", b"an archive")]
    assert programs.ended == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b'{"done": false, "reason": "it has npm"}\n', "needs a start: it has npm"),
        (b'{"error": "OSError: full"}\n', "OSError: full"),
        (b'{"done": 1}\n', "no reason given"),
        (b"nonsense\n", "ended with: MemoryError"),
        (b"", "ended with: MemoryError"),
        (b"x" * module.MAX_ANSWER_BYTES, "ended with: MemoryError"),
    ],
)
async def test_any_answer_but_done_is_a_failure(answer: bytes, words: str) -> None:
    async with (
        StateTransfers(Answering(answer), "/data") as state_transfers,
        state_transfers.open(SANDBOX_ID) as transfer,
    ):
        with pytest.raises(GatewayUnavailable, match=words):
            await transfer.apply()


async def test_an_answer_without_a_folder_is_a_failure() -> None:
    programs = Answering()
    programs.answer[1] = b'{"staged": 1}\n'
    async with StateTransfers(programs, "/data") as state_transfers:
        with pytest.raises(GatewayUnavailable, match="names no folder"):
            async with state_transfers.open(SANDBOX_ID):
                pytest.fail("it has begun")
    assert (programs.started, programs.ended) == (1, 1)


async def test_an_answer_that_does_not_come_in_time_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        StateTransfers(Answering(), "/data") as state_transfers,
        state_transfers.open(SANDBOX_ID) as transfer,
    ):
        monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.0)
        with pytest.raises(GatewayUnavailable, match="not answered in time"):
            await transfer.apply()
