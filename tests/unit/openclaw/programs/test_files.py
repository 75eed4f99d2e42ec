"""The program that reads and writes an agent's files, also against links and races."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from importlib import resources
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.openclaw.programs import files as program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it runs in sandboxes only")

TEXT = (resources.files("chowder_local.openclaw.programs") / "files.py").read_text("utf-8")
SECRET = b"root:x:0:0"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    # The path to it may have no link.
    home = tmp_path.resolve() / "home"
    home.mkdir()
    return home


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder outside of the root, with a secret file."""
    outside = tmp_path.resolve() / "outside"
    outside.mkdir()
    (outside / "passwd").write_bytes(SECRET)
    return outside


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def upload(home: Path, parts: list[str], content: bytes, into: str | None = None) -> bytes:
    chunk = len(content).to_bytes(4, "big") + content if content else b""
    target = line(parts=parts, into=into)
    return line(op="write", root=str(home)) + chunk + bytes(4) + target


def run(request: bytes) -> tuple[dict[str, Any], bytes]:
    sink = io.BytesIO()
    program.main(io.BytesIO(request), sink)
    header, _, content = sink.getvalue().partition(b"\n")
    return json.loads(header), content


def write(home: Path, path: str, content: bytes = b"new", into: str | None = None) -> Any:
    return run(upload(home, path.split("/"), content, into))[0]


def read(home: Path, path: str, **more: Any) -> tuple[dict[str, Any], bytes]:
    return run(line(op="read", root=str(home), parts=path.split("/"), **more))


def listed(home: Path, *parts: str) -> list[Any]:
    header, content = run(line(op="list", root=str(home), parts=list(parts)))
    assert header == {"size": len(content)}
    return [json.loads(row) for row in content.splitlines()]


def everything(home: Path) -> dict[str, Any]:
    """Everything below a folder, with mode and content."""
    return {
        str(each.relative_to(home)): (
            each.lstat().st_mode,
            each.read_bytes() if each.is_file() and not each.is_symlink() else None,
        )
        for each in home.rglob("*")
    }


def started() -> subprocess.Popen[bytes]:
    """The program as it runs in a sandbox: from its text, without our packages."""
    command = [sys.executable, "-I", "-S", "-c", TEXT]
    return subprocess.Popen(command, stdin=PIPE, stdout=PIPE)


def alone(request: bytes) -> subprocess.CompletedProcess[bytes]:
    """Runs the program in a process, and ends its input."""
    command = [sys.executable, "-I", "-S", "-c", TEXT]
    return subprocess.run(command, input=request, capture_output=True, timeout=20, check=False)


def test_the_program_needs_only_its_text_and_fits_into_an_argument(home: Path) -> None:
    assert len(TEXT.encode()) < 128 * 1024
    ended = alone(upload(home, ["a", "b.txt"], b"hello"))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b'{"size": 0}\n', b"")
    with started() as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(line(op="read", root=str(home), parts=["a", "b.txt"]))
        child.stdin.flush()
        assert child.stdout.read(17) == b'{"size": 5}\nhello'


def test_the_program_ends_with_its_input_because_output_of_an_ended_one_can_be_lost(
    home: Path,
) -> None:
    with started() as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(upload(home, ["x"], b"hello"))
        child.stdin.flush()
        assert child.stdout.readline() == b'{"size": 0}\n'
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(timeout=20) == 0


def test_requests_are_answered_one_after_the_other_whatever_came_before(home: Path) -> None:
    (home / "x").write_bytes(b"hello")
    (home / "link").symlink_to(home)
    reading = line(op="read", root=str(home), parts=["x"])
    nowhere = str(home / "link")
    refused = b'{"error": "refused", "message": "%b"}\n'
    requests = [
        (reading, b'{"size": 5}\nhello'),
        (line(op="read", root=str(home), parts=["y"]), b'{"error": "missing", "message": ""}\n'),
        (line(op="ready"), b'{"size": 0}\n'),
        (upload(home, ["x", "y"], b"new"), refused % b"x is not a directory."),
        (
            upload(home, ["link"], b"n"),
            refused % b"link is a symbolic link, and links are not followed.",
        ),
        (upload(home, ["new"], b"new"), b'{"size": 0}\n'),
        (reading, b'{"size": 5}\nhello'),
    ]
    # Refused before its content is read.
    lost = line(op="write", root=nowhere) + upload(home, ["z"], b"new").partition(b"\n")[2]
    with started() as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for request, answer in [*requests, *requests]:
            child.stdin.write(request)
            child.stdin.flush()
            assert child.stdout.read(len(answer)) == answer
        child.stdin.write(lost + reading)
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["error"] == "refused"
        assert child.stdout.read(17) == b'{"size": 5}\nhello'


def test_an_answer_without_a_reader_ends_the_program(home: Path) -> None:
    (home / "x").write_bytes(bytes(1024 * 1024))
    with started() as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(line(op="read", root=str(home), parts=["x"]))
        child.stdin.flush()
        assert child.stdout.read(13) == b'{"size": 1048'
        child.stdin.close()
        assert child.wait(timeout=20) == 1


def test_a_new_file_and_its_folders_are_the_users_own_with_the_usual_modes(home: Path) -> None:
    before = os.umask(0o077)
    try:
        write(home, "a/b/c.txt")
    finally:
        os.umask(before)
    modes = [stat.filemode(os.stat(home / path).st_mode) for path in ("a", "a/b", "a/b/c.txt")]
    assert modes == ["drwxr-xr-x", "drwxr-xr-x", "-rw-r--r--"]


def test_a_file_that_is_replaced_keeps_its_mode_but_no_special_bits(home: Path) -> None:
    (home / "run.sh").write_bytes(b"old")
    (home / "run.sh").chmod(0o4750)
    write(home, "run.sh")
    assert (home / "run.sh").read_bytes() == b"new"
    assert stat.S_IMODE((home / "run.sh").stat().st_mode) == 0o750


def test_a_file_is_replaced_whole_so_that_readers_of_the_old_one_keep_it(home: Path) -> None:
    (home / "x").write_bytes(b"old")
    with (home / "x").open("rb") as opened:
        write(home, "x")
        assert opened.read() == b"old"
    assert os.listdir(home) == ["x"]


def test_a_folder_is_listed_by_name_with_mode_size_and_time(home: Path) -> None:
    (home / "b.txt").write_bytes(b"12345")
    (home / "b.txt").chmod(0o640)
    os.utime(home / "b.txt", (0, 1_700_000_000.9))
    (home / "a").mkdir(mode=0o700)
    (first, second) = listed(home)
    assert first[:2] == ["a", stat.S_IFDIR | 0o700]
    assert second == ["b.txt", stat.S_IFREG | 0o640, 5, 1_700_000_000]
    assert listed(home, "a") == []


def test_a_link_is_listed_as_what_it_is(home: Path, outside: Path) -> None:
    (home / "link").symlink_to(outside)
    ((name, mode, *_),) = listed(home)
    assert (name, stat.filemode(mode)[0]) == ("link", "l")


def test_a_name_that_is_not_utf_8_does_not_stop_a_list(home: Path) -> None:
    (home / "ok").touch()
    with open(os.fsencode(home) + b"/bad\xff\xfename", "wb"):
        pass
    assert [row[0] for row in listed(home)] == ["bad\ufffd\ufffdname", "ok"]


def test_thousands_of_entries_are_listed(home: Path) -> None:
    for number in range(5000):
        (home / f"{number:05}").touch()
    assert [row[0] for row in listed(home)] == [f"{number:05}" for number in range(5000)]


def test_a_folder_over_the_limit_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "MAX_ENTRIES", 2)
    for name in "ab":
        (home / name).touch()
    assert len(listed(home)) == 2
    (home / "c").touch()
    header, _ = run(line(op="list", root=str(home), parts=[]))
    assert header == {"error": "refused", "message": ". has over 2 entries."}


def test_a_file_over_the_limit_is_not_read(home: Path) -> None:
    (home / "x").write_bytes(b"12345")
    assert read(home, "x", limit=5)[1] == b"12345"
    assert read(home, "x", limit=4)[0] == {"error": "too_large", "message": "x"}


def test_the_agents_own_permissions_apply(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    # Root may run these tests, and may do everything.
    monkeypatch.setattr(os, "mkdir", refuse)
    assert write(home, "folder/x") == {
        "error": "refused",
        "message": "The agent's user has no permission for that.",
    }


@pytest.mark.parametrize(
    "parts", [["..", "outside", "passwd"], ["a", "..", "x"], ["."], ["/etc/passwd"], ["a\0b"], [""]]
)
@pytest.mark.parametrize("op", ["list", "read", "write"])
def test_only_names_are_taken_even_from_the_server(
    home: Path, outside: Path, op: str, parts: list[str]
) -> None:
    request = upload(home, parts, b"new") if op == "write" else line(
        op=op, root=str(home), parts=parts
    )  # fmt: skip
    before = everything(home.parent)
    header, content = run(request)
    assert (header["error"], content) == ("refused", b"")
    assert everything(home.parent) == before


def test_a_name_is_not_longer_than_file_systems_take(home: Path) -> None:
    assert write(home, "ä" * 127) == {"size": 0}
    for path in ["ä" * 128, "new/" + "a" * 256]:
        assert write(home, path)["error"] == "refused"
        assert read(home, path)[0]["error"] == "refused"
    assert os.listdir(home) == ["ä" * 127]


def test_a_path_may_be_longer_than_the_system_takes_at_once(home: Path) -> None:
    deep = "/".join(["d" * 100] * 60)
    assert write(home, f"{deep}/x") == {"size": 0}
    assert read(home, f"{deep}/x")[1] == b"new"


@pytest.mark.parametrize("target", ["../outside", "/", "inside", "."])
def test_no_link_is_followed_on_the_way_wherever_it_leads(
    home: Path, outside: Path, target: str
) -> None:
    (home / "inside").mkdir()
    (home / "inside/passwd").write_bytes(b"inside")
    (home / "link").symlink_to(target)
    words = "link is a symbolic link, and links are not followed."
    before = everything(home.parent)
    assert read(home, "link/passwd") == ({"error": "refused", "message": words}, b"")
    assert write(home, "link/passwd") == {"error": "refused", "message": words}
    assert write(home, "link/deep/er") == {"error": "refused", "message": words}
    header, _ = run(line(op="list", root=str(home), parts=["link"]))
    assert header == {"error": "refused", "message": words}
    assert everything(home.parent) == before


@pytest.mark.parametrize("target", ["../outside/passwd", "../outside/new", "file", "link"])
@pytest.mark.parametrize("into", [None, "x.txt"])
def test_no_link_is_followed_at_the_end(
    home: Path, outside: Path, target: str, into: str | None
) -> None:
    (home / "file").write_bytes(b"inside")
    (home / "link").symlink_to(target)
    words = "link is a symbolic link, and links are not followed."
    before = everything(home.parent)
    assert read(home, "link") == ({"error": "refused", "message": words}, b"")
    assert write(home, "link", into=into) == {"error": "refused", "message": words}
    assert everything(home.parent) == before


def test_a_root_that_was_made_a_link_leads_nowhere(home: Path, outside: Path) -> None:
    home.rmdir()
    home.symlink_to(outside)
    before = everything(outside)
    assert read(home, "passwd")[0]["error"] == "refused"
    assert write(home, "passwd")["error"] == "refused"
    assert everything(outside) == before


@contextmanager
def special(path: Path) -> Iterator[None]:
    """A FIFO or a socket."""
    if path.name == "fifo":
        os.mkfifo(path)
        yield
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            # A socket's address has a short limit, and tmp_path may be longer.
            bound.bind(path.name)
            yield


@pytest.mark.parametrize("name", ["fifo", "socket"])
def test_special_files_are_refused_without_blocking(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    with special(home / name):
        words = f"{name} is not a regular file."
        assert read(home, name)[0] == {"error": "refused", "message": words}
        assert write(home, name) == {"error": "refused", "message": words}
        # As if it replaced the file after the check.
        monkeypatch.setattr(program, "must_be_file", blind_at_first())
        assert read(home, name)[0] == {"error": "refused", "message": words}
    assert name in os.listdir(home)


def blind_at_first() -> Callable[[os.stat_result, list[str]], None]:
    real, is_seeing = program.must_be_file, iter([False, True])

    def look(info: os.stat_result, parts: list[str]) -> None:
        if next(is_seeing):
            real(info, parts)

    return look


def test_truncated_input_changes_nothing(home: Path) -> None:
    (home / "x").write_bytes(b"old")
    before = everything(home)
    whole = upload(home, ["a", "x"], b"new content")
    for cut in range(len(whole)):
        with pytest.raises(program.Truncated):
            run(whole[:cut])
        assert everything(home) == before
    run(whole)
    assert everything(home) != before


def test_a_client_that_disconnects_ends_the_program_without_output(home: Path) -> None:
    ended = alone(upload(home, ["x"], b"new")[:-1])
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, b"", b"")
    assert os.listdir(home) == []


@contextmanager
def longest_file(length: int) -> Iterator[None]:
    """Lets the system refuse larger files, like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_reported_after_the_upload_and_leaves_nothing(home: Path) -> None:
    (home / "x").write_bytes(b"old")
    content = bytes(1024 * 1024)
    chunk = len(content).to_bytes(4, "big") + content
    request = line(op="write", root=str(home)) + chunk * 8 + bytes(4) + line(parts=["x"])
    with longest_file(len(content) * 2):
        header, _ = run(request)
    assert header["error"] == "full"
    assert everything(home) == {"x": ((home / "x").stat().st_mode, b"old")}


def test_a_disk_that_fails_at_the_end_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    assert write(home, "x") == {"error": "failed", "message": "Input/output error"}
    assert os.listdir(home) == []


def test_long_content_is_brought_to_the_disk_in_steps(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(program, "SYNC_BYTES", 2)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    request = line(op="write", root=str(home)) + b"\0\0\0\1x" * 5 + bytes(4) + line(parts=["x"])
    run(request)
    assert len(synced) == 2
    assert (home / "x").read_bytes() == b"xxxxx"


@pytest.mark.parametrize("failing", [os.O_TMPFILE, program.FOLDER])
def test_a_disk_failure_has_the_systems_message(
    home: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    real = os.open

    def fail(path: str, flags: int, *arguments: Any, **more: Any) -> int:
        if flags & failing == failing and path != "/" and path in {".", "a"}:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, flags, *arguments, **more)

    monkeypatch.setattr(os, "open", fail)
    assert write(home, "a/x") == {"error": "failed", "message": "Input/output error"}
    assert everything(home) == {}


@pytest.fixture
def without_unnamed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: str, flags: int, *arguments: Any, **more: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, *arguments, **more)

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.usefixtures("without_unnamed_files")
def test_a_file_system_without_unnamed_files_serves_as_well(home: Path) -> None:
    assert write(home, "a/x") == {"size": 0}
    assert (home / "a/x").read_bytes() == b"new"
    assert write(home, "a")["error"] == "refused"
    with pytest.raises(program.Truncated):
        run(upload(home, ["y"], b"new")[:-1])
    assert sorted(everything(home)) == ["a", "a/x"]


def test_a_folder_that_takes_the_place_at_the_last_moment_stays(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fchmod", lambda *_: (home / "x").mkdir())
    assert write(home, "x") == {"error": "refused", "message": "x is a directory."}
    assert os.listdir(home) == ["x"]


def test_a_folder_that_is_removed_again_and_again_ends_the_walk(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "mkdir", lambda *_, **__: None)
    assert write(home, "a/x")["message"] == "a keeps changing; try again."


def test_an_entry_that_goes_while_its_folder_is_listed_is_left_out(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "x").touch()

    def gone(_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(program, "row_of", gone)
    assert listed(home) == []


def test_a_file_that_grows_while_it_is_sent_is_sent_as_it_was(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "x").write_bytes(b"12345")
    real = program.answer

    def grow(sink: io.BytesIO, **fields: Any) -> None:
        real(sink, **fields)
        with (home / "x").open("ab") as opened:
            opened.write(b"678")

    monkeypatch.setattr(program, "answer", grow)
    assert read(home, "x") == ({"size": 5}, b"12345")


def test_a_file_that_shrinks_while_it_is_sent_ends_the_program(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "x").write_bytes(b"12345")
    monkeypatch.setattr(program, "answer", lambda *_, **__: os.truncate(home / "x", 2))
    with pytest.raises(program.Truncated):
        read(home, "x")


def test_a_file_that_cannot_be_read_to_its_end_ends_the_program(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "x").write_bytes(b"12345")

    def fail(_: int, __: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(program.Truncated):
        read(home, "x")


class Swapping(threading.Thread):
    """Swaps a path for a link and back, as fast as possible, until the block ends."""

    def __init__(self, path: Path, make: Callable[[Path], None], target: Path) -> None:
        super().__init__()
        self._path, self._make, self._target = path, make, target
        self._is_over = threading.Event()

    def run(self) -> None:
        # A concurrent writer may win at each step.
        while not self._is_over.is_set():
            self._clear()
            with suppress(OSError):
                os.symlink(self._target, self._path)
            self._clear()
            with suppress(OSError):
                self._make(self._path)

    def _clear(self) -> None:
        with suppress(OSError):
            os.unlink(self._path)
        shutil.rmtree(self._path, ignore_errors=True)

    def __enter__(self) -> Swapping:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.join()


def test_a_folder_that_is_constantly_swapped_for_a_link_never_leads_out(
    home: Path, outside: Path
) -> None:
    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "passwd").write_bytes(b"inside")

    before = everything(outside)
    outcomes = set()
    with Swapping(home / "folder", make, outside):
        for swaps in range(1500):
            outcomes.add(read(home, "folder/passwd")[1])
            outcomes.add(write(home, "folder/new").get("error"))
            outcomes.add(run(line(op="list", root=str(home), parts=["folder"]))[1][:12])
            if swaps > 400 and {None, "refused"} <= outcomes:
                break
    assert SECRET not in outcomes
    assert {None, "refused"} <= outcomes, "the swaps were never met"
    assert everything(outside) == before


def test_a_file_that_is_swapped_for_a_link_after_it_was_looked_at_is_refused(
    home: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "link").symlink_to(outside / "passwd")
    monkeypatch.setattr(program, "must_be_file", blind_at_first())
    assert read(home, "link") == (
        {"error": "refused", "message": "link is not a regular file."},
        b"",
    )


def test_a_link_that_takes_the_place_at_the_last_moment_is_replaced_itself(
    home: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(outside)
    monkeypatch.setattr(os, "fchmod", lambda *_: (home / "x").symlink_to(outside / "passwd"))
    assert write(home, "x") == {"size": 0}
    assert (home / "x").read_bytes() == b"new"
    assert not (home / "x").is_symlink()
    assert everything(outside) == before
