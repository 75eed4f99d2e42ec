"""An agent's files, with the real program and with one that answers wrongly."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.agents import (
    FileMissing,
    FileRefused,
    FileTooLarge,
    GatewayUnavailable,
    SandboxFull,
)
from chowder_local.core.errors.sandboxes import SandboxPaused
from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.openclaw import files as module
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
def files(processes: LocalProcesses, home: Path) -> Files:
    return Files(processes, str(home), idle_timeout_s=5.0)


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
    return Files(
        ScriptedProcesses(*reply, stderr_tail=stderr_tail), "/data/.openclaw", idle_timeout_s=5.0
    )


async def taken(files: Files, path: str) -> bytes:
    download = await files.download(SANDBOX_ID, path)
    content = b"".join([chunk async for chunk in download.chunks])
    assert len(content) == download.size
    return content


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


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "a/b/../../..", "./.."])
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(FileRefused, match="leads out of the instance root"):
        split_path(path)


def test_an_absolute_path_and_one_with_nul_are_refused() -> None:
    with pytest.raises(FileRefused, match="relative to the instance root"):
        split_path("/etc/passwd")
    with pytest.raises(FileRefused, match="NUL"):
        split_path("a\0b")


@pytest.mark.parametrize("content", ["", "x", "naïve 日本語 😀\r\n\0", "x" * 1_000_000])
async def test_a_text_comes_back_as_it_was_written(files: Files, content: str) -> None:
    await files.write_text(SANDBOX_ID, "a/b.txt", content)
    assert await files.text(SANDBOX_ID, "a/b.txt") == content
    assert await taken(files, "a/b.txt") == content.encode()


async def test_a_file_that_is_not_utf8_is_refused(files: Files, home: Path) -> None:
    (home / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(FileRefused, match=r"x is not UTF-8 text; .*download"):
        await files.text(SANDBOX_ID, "x")
    assert await taken(files, "x") == b"\xff\xfe"


async def test_a_text_over_the_limit_is_refused(
    files: Files, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TEXT_BYTES", 4)
    (home / "x").write_bytes(b"1234")
    assert await files.text(SANDBOX_ID, "x") == "1234"
    (home / "x").write_bytes(b"12345")
    with pytest.raises(FileTooLarge, match=r"x is longer than the 4 bytes .*download"):
        await files.text(SANDBOX_ID, "x")


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


async def test_a_missing_path_is_reported(files: Files) -> None:
    for call in (files.folder, files.text, files.download):
        with pytest.raises(FileMissing):
            await call(SANDBOX_ID, "nowhere")


async def test_a_refusal_has_the_programs_message(files: Files, home: Path) -> None:
    (home / "link").symlink_to("/etc/passwd")
    for call in (files.folder, files.text, files.download):
        with pytest.raises(FileRefused, match="link is a symbolic link"):
            await call(SANDBOX_ID, "link")
    with pytest.raises(FileRefused, match="link is a symbolic link"):
        await files.write_text(SANDBOX_ID, "link", "x")
    with pytest.raises(FileRefused, match="names a directory, not a file"):
        await files.write_text(SANDBOX_ID, "folder/", "x")


async def test_a_path_that_cannot_be_is_refused_before_anything_runs(
    files: Files, processes: LocalProcesses
) -> None:
    for call in (files.folder, files.text, files.download):
        with pytest.raises(FileRefused):
            await call(SANDBOX_ID, "../x")
    with pytest.raises(FileRefused):
        await files.write_text(SANDBOX_ID, "../x", "")
    assert processes.most_running == 0


async def test_an_upload_that_is_given_up_changes_nothing(files: Files, home: Path) -> None:
    (home / "x").write_bytes(b"old")
    with suppress(ZeroDivisionError):
        async with files.writing(SANDBOX_ID) as writing:
            await writing.write(b"new" * 100_000)
            raise ZeroDivisionError
    assert [each.read_bytes() for each in home.iterdir()] == [b"old"]


@pytest.mark.parametrize("path", ["folder", "folder/", "folder/.", "new/"])
async def test_a_file_with_a_name_goes_into_a_folder(files: Files, home: Path, path: str) -> None:
    (home / "folder").mkdir()
    async with files.writing(SANDBOX_ID) as writing:
        await writing.place(path, "x.bin")
    assert (home / path / "x.bin").read_bytes() == b""


async def test_a_download_that_is_given_up_ends_the_program(
    files: Files, home: Path, processes: LocalProcesses
) -> None:
    (home / "x").write_bytes(bytes(8 * 1024 * 1024))
    download = await files.download(SANDBOX_ID, "x")
    await anext(download.chunks)
    assert processes.running == 1
    await download.chunks.aclose()
    assert processes.running == 0


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


async def test_a_paused_sandbox_raises_sandbox_paused(
    files: Files, processes: LocalProcesses
) -> None:
    processes.failing = SandboxPaused()
    for call in (files.folder, files.text, files.download):
        with pytest.raises(SandboxPaused):
            await call(SANDBOX_ID, "x")
    processes.failing = None
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
    files = Files(Trickling(begin), "/home", idle_timeout_s=5.0)
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
