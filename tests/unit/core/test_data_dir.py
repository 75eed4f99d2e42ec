"""Files of the data directory are private, with any umask."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.data_dir import (
    make_private_folder,
    open_log,
    touch_private,
    write_private,
)
from chowder_local.core.errors.process import DataDirUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.usefixtures("umask")
def test_a_new_log_and_its_folder_are_private(tmp_path: Path) -> None:
    with open_log(tmp_path / "data" / "server.log") as log:
        log.write(b"hello")
    assert mode(tmp_path / "data") == 0o700
    assert mode(tmp_path / "data" / "server.log") == 0o600


def test_a_log_that_others_could_read_becomes_private_and_keeps_its_content(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(b"one\n")
    path.chmod(0o644)
    with open_log(path) as log:
        log.write(b"two\n")
    assert mode(path) == 0o600
    assert path.read_bytes() == b"one\ntwo\n"


def test_an_empty_folder_becomes_private(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)
    make_private_folder(folder)
    assert mode(folder) == 0o700


def test_a_folder_with_content_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "theirs").touch()
    folder.chmod(0o1777)
    make_private_folder(folder)
    assert mode(folder) == 0o1777


def test_a_symbolic_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "theirs"
    (tmp_path / "server.lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        touch_private(tmp_path / "server.lock")
    assert not target.exists()


def test_an_unusable_data_directory_raises_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DataDirUnusable, match="choose another one with --data-dir"):
        open_log(tmp_path / "data" / "server.log")


def test_a_private_file_is_replaced_atomically(tmp_path: Path) -> None:
    path = tmp_path / "default.key"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_private_with_umask_0(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "default.key", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "default.key").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_raises_an_error_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "default.key"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("chowder_local.core.data_dir.os.fsync", full)
    with pytest.raises(DataDirUnusable, match=r"cannot be written: No space left.*--data-dir"):
        write_private(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_directory_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataDirUnusable, match="cannot be written: No such file"):
        write_private(tmp_path / "gone" / "default.key", b"new")
