"""File programs that wait for the next call, with the real program and with lying ones."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.agents import FileMissing, FileRefused
from chowder_local.openclaw import file_programs as module
from chowder_local.openclaw.file_programs import READY_ANSWER, FilePrograms
from chowder_local.openclaw.files import Files
from chowder_local.openclaw.sandbox_exec import command
from chowder_local.openclaw.standing_work import has_foreign_process
from tests.scripted.local_processes import LocalProcesses
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

SANDBOX_ID, OTHER_ID = SandboxId("chowder-1"), SandboxId("chowder-2")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    # The path to it may have no link.
    home = tmp_path.resolve() / "home"
    home.mkdir()
    (home / "x").write_bytes(b"content")
    return home


@pytest.fixture
def processes() -> LocalProcesses:
    return LocalProcesses()


@pytest.fixture
async def files(processes: LocalProcesses, home: Path) -> AsyncIterator[Files]:
    async with FilePrograms(processes).open() as programs:
        yield Files(programs, str(home), idle_timeout_s=5.0)


async def test_calls_that_follow_use_the_same_program(
    files: Files, processes: LocalProcesses, home: Path
) -> None:
    await files.write_text(SANDBOX_ID, "a/b", "text")
    assert await files.text(SANDBOX_ID, "a/b") == "text"
    assert [each.name for each in (await files.folder(SANDBOX_ID, ".")).entries] == ["a", "x"]
    with pytest.raises(FileMissing):
        await files.text(SANDBOX_ID, "missing")
    with pytest.raises(FileRefused):
        await files.write_text(SANDBOX_ID, "a", "text")
    async with files.writing(SANDBOX_ID) as writing:
        await writing.write(b"new")
        await writing.place("x")
    download = await files.download(SANDBOX_ID, "x")
    assert [chunk async for chunk in download.chunks] == [b"new"]
    assert len(processes.children) == 1


async def test_a_program_serves_its_own_sandbox_only(
    files: Files, processes: LocalProcesses
) -> None:
    await files.text(SANDBOX_ID, "x")
    await files.text(OTHER_ID, "x")
    assert len(processes.children) == 2


async def test_a_transfer_that_breaks_off_ends_its_program(
    files: Files, processes: LocalProcesses, home: Path
) -> None:
    (home / "large").write_bytes(bytes(8 * 1024 * 1024))
    download = await files.download(SANDBOX_ID, "large")
    await anext(download.chunks)
    await download.chunks.aclose()
    assert processes.running == 0
    async with files.writing(SANDBOX_ID) as writing:
        await writing.write(b"half")
    assert processes.running == 0
    assert await files.text(SANDBOX_ID, "x") == "content"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_program_that_its_agent_has_ended_or_stopped_is_replaced(
    files: Files,
    processes: LocalProcesses,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    monkeypatch.setattr(module, "READY_TIMEOUT_S", 0.05)
    await files.text(SANDBOX_ID, "x")
    (child,) = processes.children
    child.send_signal(number)
    if number == signal.SIGSTOP:
        # Leaving waits for the end of a child, as an engine does not.
        asyncio.get_running_loop().call_later(0.2, child.send_signal, signal.SIGCONT)
    assert await files.text(SANDBOX_ID, "x") == "content"
    assert len(processes.children) == 2


async def test_a_program_ends_when_it_is_not_used(
    files: Files, processes: LocalProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.01)
    await files.text(SANDBOX_ID, "x")
    await eventually(lambda: not processes.running, "no program")
    await files.text(SANDBOX_ID, "x")
    await eventually(lambda: not processes.running, "no program")


async def test_no_more_programs_wait_than_may(
    files: Files, processes: LocalProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    for number in range(3):
        await files.text(SandboxId(f"chowder-{number}"), "x")
    assert processes.running == 2


async def test_all_programs_end_with_the_server(processes: LocalProcesses, home: Path) -> None:
    programs = FilePrograms(processes)
    files = Files(programs, str(home), idle_timeout_s=5.0)
    async with programs.open():
        await files.text(SANDBOX_ID, "x")
        assert processes.running == 1
    assert processes.running == 0
    # A call that ends later leaves none, either.
    await files.text(SANDBOX_ID, "x")
    assert processes.running == 0


class Lying:
    """A program that answers each request with the next output, whatever it is."""

    stderr_tail = ""

    def __init__(self, *outputs: bytes) -> None:
        self.started = 0
        self._outputs = list(outputs)

    @asynccontextmanager
    async def process(self, _: SandboxId, __: Sequence[str]) -> AsyncIterator[Lying]:
        self.started += 1
        yield self

    async def write(self, chunk: bytes) -> None:
        pass

    async def read(self) -> bytes:
        return self._outputs.pop(0)


@pytest.mark.parametrize(
    "outputs",
    [
        [b'{"size": 1}\nab'],
        [b'{"size": 1}\n', b"ab"],
        [b'{"size": 1}\na', READY_ANSWER + b"b"],
        [b'{"size": 1}\na', b"ab"],
        [b'{"size": 1}\na', b"{", b'"x'],
        [b'{"size": 1}\na', b""],
    ],
)
async def test_a_program_that_sends_what_it_should_not_is_used_no_more(
    outputs: list[bytes],
) -> None:
    processes = Lying(*outputs, b'{"size": 1}\nc')
    async with FilePrograms(processes).open() as programs:
        files = Files(programs, "/home", idle_timeout_s=5.0)
        assert await files.text(SANDBOX_ID, "x") == "a"
        assert await files.text(SANDBOX_ID, "x") == "c"
    assert processes.started == 2


def test_a_program_that_waits_is_no_work_of_the_agents() -> None:
    waiting = " ".join(command("files.py"))
    assert not has_foreign_process(["openclaw-gateway", waiting])
    assert has_foreign_process(["openclaw-gateway", waiting, "python3 -m http.server"])
