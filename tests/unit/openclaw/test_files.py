"""An agent's files, with the real program and with one that answers wrongly."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.agents import (
    FileRefused,
    GatewayUnavailable,
    SandboxFull,
)
from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.openclaw import files as module
from chowder_local.openclaw.file_programs import FilePrograms
from chowder_local.openclaw.files import PROGRAMS_PER_SANDBOX, Files, split_path
from chowder_local.openclaw.gateway import take_refused_sizes
from tests.scripted.hostile import heartbeat
from tests.scripted.local_processes import LocalProcesses
from tests.scripted.refusals import refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from chowder_local.core.errors import ChowderError

SANDBOX_ID, OTHER_ID = SandboxId("chowder-1"), SandboxId("chowder-2")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    # The path to it may have no link.
    home = tmp_path.resolve() / "home"
    home.mkdir()
    return home


@pytest.fixture
def processes() -> LocalProcesses:
    return LocalProcesses()


@pytest.fixture
async def files(processes: LocalProcesses, home: Path) -> AsyncIterator[Files]:
    async with FilePrograms(processes).open() as programs:
        yield Files(programs, str(home), idle_timeout_s=5.0)


class ScriptedProcesses:
    """A program that answers with a test's output, whatever the request is."""

    def __init__(self, *reply: bytes, stderr_tail: str = "") -> None:
        self.stderr_tail = stderr_tail
        self.written = b""
        self._replies = list(reply)

    @asynccontextmanager
    async def process(
        self, _: SandboxId, command: Sequence[str]
    ) -> AsyncIterator[ScriptedProcesses]:
        yield self

    async def write(self, chunk: bytes) -> None:
        self.written += chunk

    async def read(self) -> bytes:
        return self._replies.pop(0) if self._replies else b""


def files_with(*reply: bytes, stderr_tail: str = "") -> Files:
    programs = FilePrograms(ScriptedProcesses(*reply, stderr_tail=stderr_tail))
    return Files(programs, "/data/.openclaw", idle_timeout_s=5.0)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("", []),
        (".", []),
        ("./", []),
        ("a", ["a"]),
        ("a/b.txt", ["a", "b.txt"]),
        ("./a//b/./c/", ["a", "b", "c"]),
        ("a/../b", ["b"]),
        ("a/b/../..", []),
        ("...", ["..."]),
        ("a\\b", ["a\\b"]),
        (" ", [" "]),
    ],
)
def test_a_path_leads_from_name_to_name(path: str, parts: list[str]) -> None:
    assert split_path(path) == parts


async def test_a_folder_tells_of_each_entry_what_it_is(files: Files, home: Path) -> None:
    (home / "folder/sub").mkdir(parents=True)
    await files.write_text(SANDBOX_ID, "folder/x.txt", "12345")
    (home / "folder/link").symlink_to("sub")
    folder = await files.folder(SANDBOX_ID, "./folder/")
    assert folder.path == "folder"
    assert [(each.name, each.path, each.is_dir) for each in folder.entries] == [
        ("link", "folder/link", False),
        ("sub", "folder/sub", True),
        ("x.txt", "folder/x.txt", False),
    ]
    link, sub, text = folder.entries
    assert (link.permissions, sub.permissions) == ("lrwxrwxrwx", "drwxr-xr-x")
    assert (text.permissions, text.size) == ("-rw-r--r--", 5)
    assert text.mod_time == datetime.fromtimestamp(
        int((home / "folder/x.txt").stat().st_mtime), UTC
    )


async def test_what_openclaw_refused_to_write_is_measured_and_removed(
    files: Files, home: Path
) -> None:
    (home / "openclaw.json").write_text("12345")
    (home / "openclaw.json.rejected.1").write_text("1")
    (home / "openclaw.json.rejected.2").write_text("123")
    assert await take_refused_sizes(files, SANDBOX_ID) == (5, 3)
    assert await take_refused_sizes(files, SANDBOX_ID) is None
    assert [each.name for each in home.iterdir()] == ["openclaw.json"]


async def test_the_root_is_a_dot(files: Files, home: Path) -> None:
    (home / "x").touch()
    for path in ("", ".", "a/.."):
        folder = await files.folder(SANDBOX_ID, path)
        assert (folder.path, [each.path for each in folder.entries]) == (".", ["x"])


@pytest.mark.parametrize(
    ("seconds", "year"), [(0, 1970), (-(10**12), 1), (10**15, 9999), (1_780_000_000, 2026)]
)
async def test_a_file_may_claim_to_be_of_any_year(seconds: int, year: int) -> None:
    rows = json.dumps(["x", stat.S_IFREG | 0o600, 1, seconds]).encode()
    files = files_with(b'{"size": %d}\n' % len(rows), rows)
    (entry,) = (await files.folder(SANDBOX_ID, ".")).entries
    assert entry.mod_time.year == year


async def test_the_number_of_programs_in_a_sandbox_is_limited(
    files: Files, home: Path, processes: LocalProcesses
) -> None:
    (home / "x").write_bytes(b"x")
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(files.text(SANDBOX_ID, "x")) for _ in range(PROGRAMS_PER_SANDBOX * 2)
        ]
    assert {task.result() for task in tasks} == {"x"}
    assert processes.most_running == PROGRAMS_PER_SANDBOX


async def test_a_transfer_over_the_limit_fails_in_time_and_other_sandboxes_go_on(
    files: Files, home: Path
) -> None:
    (home / "x").write_bytes(bytes(8 * 1024 * 1024))
    downloads = [await files.download(SANDBOX_ID, "x") for _ in range(PROGRAMS_PER_SANDBOX)]
    files.idle_timeout_s = 0.01
    with pytest.raises(GatewayUnavailable, match="too many file transfers"):
        await files.text(SANDBOX_ID, "x")
    await files.folder(OTHER_ID, ".")
    for download in downloads:
        await download.chunks.aclose()
    await files.folder(SANDBOX_ID, ".")


LIES = {
    "nothing": (),
    "no line": (b"x" * 300_000, b"x" * 300_000),
    "no end": (b'{"size": 1',),
    "no JSON": (b"Traceback\n",),
    "not UTF-8": (b"\xff\n",),
    "too deep": (b"[" * 200_000 + b"\n",),
    "no object": (b"[]\n",),
    "no size": (b"{}\n",),
    "a size that is no number": (b'{"size": "1"}\n', b"x"),
    "a size below nothing": (b'{"size": -1}\n',),
    "less than was said": (b'{"size": 5}\n', b"1234"),
    "more than can be": (b'{"size": 999999999999}\n', b"1234"),
}


async def test_an_answer_with_a_wrong_size_is_refused() -> None:
    refusals = {}
    for lie, chunks in LIES.items():
        for call in (files_with(*chunks).folder, files_with(*chunks).text):
            doing = call(SANDBOX_ID, "x")
            refusals[lie, call.__name__] = await refusal_of(
                (GatewayUnavailable, StreamBroken), doing
            )
    assert not [lie for lie, words in refusals.items() if not words]


@pytest.mark.parametrize(
    "rows",
    [
        b"{}",
        b"[1]",
        b'["x",1,1]',
        b'["\\ud800",1,1,1]',
        b'["x",1,1,null]',
        b"[",
        b"\n",
        b'["x",1,1,1]\n' * module.MAX_ENTRIES,
        b'["%b",1,1,1]' % (b"x" * module.MAX_ROW_BYTES),
        b"[" * 16 * 1024 * 1024,
    ],
    ids=lambda rows: repr(rows[:15]),
)
async def test_an_invalid_listing_is_refused(rows: bytes) -> None:
    files = files_with(b'{"size": %d}\n' % len(rows), rows)
    async with heartbeat(repr(rows[:15])):
        with pytest.raises(GatewayUnavailable, match="invalid listing"):
            await files.folder(SANDBOX_ID, ".")


class Trickling(ScriptedProcesses):
    """A program that goes on with one blank after the other."""

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        return await super().read() or b" "


@pytest.mark.parametrize("begin", [b"", b'{"size": 10000000}\n'])
async def test_a_program_that_answers_byte_by_byte_is_given_up(
    begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT_S", 0.01)
    files = Files(FilePrograms(Trickling(begin)), "/home", idle_timeout_s=5.0)
    for call in (files.folder, files.text) if begin else (files.folder, files.text, files.download):
        with pytest.raises(GatewayUnavailable, match="has not answered within"):
            await call(SANDBOX_ID, "x")


async def test_output_after_the_content_is_ignored() -> None:
    assert await files_with(b'{"size": 3}\nab', b"cde").text(SANDBOX_ID, "x") == "abc"


async def test_a_truncated_download_breaks_off() -> None:
    download = await files_with(b'{"size": 5}\n12', b"34").download(SANDBOX_ID, "a/x")
    assert (download.name, download.size) == ("x", 5)
    with pytest.raises(StreamBroken):
        [chunk async for chunk in download.chunks]


@pytest.mark.parametrize(
    ("code", "failure", "words"),
    [
        ("full", SandboxFull, "No space is left"),
        ("failed", GatewayUnavailable, "failed in the sandbox: Input/output error"),
        ("whatever", GatewayUnavailable, "failed in the sandbox: Input/output error"),
    ],
)
async def test_a_failure_of_the_sandbox_is_told(
    code: str, failure: type[ChowderError], words: str
) -> None:
    reply = json.dumps({"error": code, "message": "Input/output error"}).encode() + b"\n"
    with pytest.raises(failure, match=words):
        await files_with(reply).write_text(SANDBOX_ID, "x", "")


async def test_a_programs_message_is_cut() -> None:
    reply = json.dumps({"error": "refused", "message": "x" * 60_000}).encode() + b"\n"
    with pytest.raises(FileRefused) as refused:
        await files_with(reply).text(SANDBOX_ID, "x")
    assert len(str(refused.value)) == 1000


async def test_a_program_that_cannot_run_is_quoted() -> None:
    with pytest.raises(GatewayUnavailable, match="ended with: python3: not found"):
        await files_with(stderr_tail="exec\npython3: not found").text(SANDBOX_ID, "x")
