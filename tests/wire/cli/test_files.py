"""`files` against a scripted server."""

import os
import re
import sys
from pathlib import Path

import pytest

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

LIST = "GET /v1/instances"
INSTANCE = {"id": "0a1b2c3d-4e5f", "name": "fish"}
FILES = "/v1/instances/0a1b2c3d-4e5f/files"
FOLDER = {
    "name": "notes",
    "path": "workspace/notes",
    "is_dir": True,
    "size": 4096,
    "mod_time": "2026-11-24T10:11:12Z",
    "permissions": "drwxr-xr-x",
}
FILE = {**FOLDER, "name": "[x].md", "is_dir": False, "size": 1234, "permissions": "-rw-r--r--"}
DOWNLOAD = f"GET {FILES}/download?path=workspace%2Fx.bin"
CONTENT = b"\x00\xff\r\n"


def test_a_folder_is_a_table(serve: Serve, capsys: Output) -> None:
    listing = {"path": "workspace", "entries": [FOLDER, FILE]}
    env, _ = serve({LIST: [INSTANCE], f"GET {FILES}?path=workspace": listing})
    assert run(["files", "ls", "fish", "workspace"], env) == 0
    _, folder, file = capsys.readouterr().out.splitlines()
    assert folder.split() == ["drwxr-xr-x", "2026-11-24", "10:11", "notes/"]
    assert file.split() == ["-rw-r--r--", "1", "kB", "2026-11-24", "10:11", "[x].md"]


def test_the_home_is_listed_when_no_path_is_given(serve: Serve, capsys: Output) -> None:
    env, _ = serve({LIST: [INSTANCE], f"GET {FILES}?path=.": {"path": ".", "entries": []}})
    assert run(["files", "ls", "0a1b"], env) == 0
    assert capsys.readouterr().err == "The folder is empty.\n"


def test_a_file_is_printed_byte_for_byte(
    serve: Serve, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    env, _ = serve({LIST: [INSTANCE], DOWNLOAD: CONTENT})
    assert run(["files", "cat", "fish", "workspace/x.bin"], env) == 0
    assert capsysbinary.readouterr().out == CONTENT


@pytest.mark.parametrize(
    ("target", "becomes"), [([], "x.bin"), (["folder"], "folder/x.bin"), (["y"], "y")]
)
def test_a_file_is_downloaded(
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: list[str],
    becomes: str,
) -> None:
    env, _ = serve({LIST: [INSTANCE], DOWNLOAD: CONTENT})
    (tmp_path / "here/folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert run(["files", "get", "fish", "workspace/x.bin", *target], env) == 0
    found = [each for each in (tmp_path / "here").rglob("*") if each.is_file()]
    assert found == [tmp_path / "here" / becomes]
    assert found[0].read_bytes() == CONTENT


def test_a_failed_download_keeps_the_old_file(serve: Serve, tmp_path: Path, capsys: Output) -> None:
    env, _ = serve({LIST: [INSTANCE], DOWNLOAD: (404, {"detail": "File not found."})})
    target = tmp_path / "target"
    target.mkdir()
    (target / "x.bin").write_bytes(b"old")
    assert run(["files", "get", "fish", "workspace/x.bin", str(target), "-y"], env) == 1
    assert "File not found." in capsys.readouterr().err
    assert [each.read_bytes() for each in target.iterdir()] == [b"old"]


def test_a_file_is_overwritten_after_asking(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, requests = serve({LIST: [INSTANCE], DOWNLOAD: CONTENT})
    (tmp_path / "y").write_bytes(b"old")
    arguments = ["files", "get", "fish", "workspace/x.bin", str(tmp_path / "y")]
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert run(arguments, env) == 1
    assert ((tmp_path / "y").read_bytes(), requests) == (b"old", [])
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "y")
    assert run(arguments, env) == 0
    assert (tmp_path / "y").read_bytes() == CONTENT


@pytest.mark.parametrize("target", ["none/", "none/y", "/dev/null"])
def test_an_impossible_target_is_refused_before_the_download(
    serve: Serve, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    env, requests = serve({LIST: [INSTANCE], DOWNLOAD: CONTENT})
    monkeypatch.chdir(tmp_path)
    assert run(["files", "get", "fish", "workspace/x.bin", target, "-y"], env) == 1
    told = "is not a file" if "null" in target else "There is no folder none. Make it first."
    assert told in capsys.readouterr().err
    assert requests == []


@pytest.mark.parametrize(
    ("path", "sent"), [([], b"workspace/"), (["workspace/y.bin"], b"workspace/y.bin")]
)
def test_a_file_is_uploaded(serve: Serve, tmp_path: Path, path: list[str], sent: bytes) -> None:
    env, requests = serve({LIST: [INSTANCE], f"POST {FILES}/upload": (204, b"")})
    source = tmp_path / "x.bin"
    source.write_bytes(CONTENT)
    assert run(["files", "put", "fish", str(source), *path], env) == 0
    form = requests[-1][1]
    assert b'name="path"\r\n\r\n' + sent + b"\r\n" in form
    assert b'name="file"; filename="x.bin"' in form
    assert b"\r\n\r\n" + CONTENT + b"\r\n" in form


def test_standard_input_is_uploaded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    env, requests = serve({LIST: [INSTANCE], f"POST {FILES}/upload": (204, b"")})
    reading, writing = os.pipe()
    with open(writing, "wb") as pipe:
        pipe.write(CONTENT)
    with open(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run(["files", "put", "fish", "-", "workspace/y.bin"], env) == 0
    assert CONTENT in requests[-1][1]


@pytest.mark.parametrize(
    ("path", "target"),
    [("workspace/", "workspace/docs"), ("workspace", "workspace/docs"), ("other", "other")],
)
def test_a_folder_is_uploaded_with_all_below_it(
    serve: Serve, tmp_path: Path, capsys: Output, path: str, target: str
) -> None:
    env, requests = serve(
        {
            LIST: [INSTANCE],
            f"POST {FILES}/upload": (204, b""),
            f"GET {FILES}?path=workspace": {"path": "workspace", "entries": []},
        }
    )
    folder = tmp_path / "docs"
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/x.md").write_bytes(CONTENT)
    (folder / "y.md").touch()
    (folder / "loop").symlink_to(folder)
    assert run(["files", "put", "fish", str(folder), path], env) == 0
    forms = [form for call, form in requests if call.startswith("POST")]
    sent = [re.search(rb'name="path"\r\n\r\n(.*?)\r\n', form) for form in forms]
    assert [each and each[1].decode() for each in sent] == [f"{target}/a/b/x.md", f"{target}/y.md"]
    assert CONTENT in forms[0]
    assert capsys.readouterr().err == f"2 files put into {target}.\n"
