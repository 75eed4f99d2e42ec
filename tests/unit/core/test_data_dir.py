"""Files of the data directory: closed to others, whatever the umask and whatever was there."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.data_dir import (
    make_private_folder,
    opened_log,
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
def test_a_log_and_its_folder_are_made_for_us_alone(tmp_path: Path) -> None:
    with opened_log(tmp_path / "data" / "server.log") as log:
        log.write(b"hello")
    assert mode(tmp_path / "data") == 0o700
    assert mode(tmp_path / "data" / "server.log") == 0o600


def test_a_file_that_others_could_read_is_closed_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(b"one\n")
    path.chmod(0o644)
    with opened_log(path) as log:
        log.write(b"two\n")
    assert mode(path) == 0o600
    assert path.read_bytes() == b"one\ntwo\n"


def test_an_empty_folder_becomes_ours_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)
    make_private_folder(folder)
    assert mode(folder) == 0o700


def test_a_folder_that_others_use_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "theirs").touch()
    folder.chmod(0o1777)
    make_private_folder(folder)
    assert mode(folder) == 0o1777


def test_a_link_that_someone_has_put_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "theirs"
    (tmp_path / "server.lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        touch_private(tmp_path / "server.lock")
    assert not target.exists()


def test_a_place_that_cannot_be_used_is_told_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DataDirUnusable, match="choose another one with --data-dir"):
        opened_log(tmp_path / "data" / "server.log")


def test_a_private_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "default.key"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_closed_even_under_an_open_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "default.key", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "default.key").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_told_in_words_and_leaves_the_old_file(
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


def test_a_directory_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(DataDirUnusable, match="cannot be written: No such file"):
        write_private(tmp_path / "gone" / "default.key", b"new")
