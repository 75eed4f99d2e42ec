"""The archives of snapshots: written, read, kept and removed."""

from __future__ import annotations

import io
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import SnapshotId
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.errors.requests import ArchiveRefused
from chowder_local.core.errors.sandboxes import SandboxMissing
from chowder_local.instances.snapshots.archives import AppendStream, Archives
from tests.scripted.homes import archive, contents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE = SnapshotId("one")


def test_an_archive_exists_once_it_is_kept_and_is_private(tmp_path: Path) -> None:
    archives = Archives(tmp_path / "snapshots")
    archives.raw(ONE).write_bytes(b"raw")
    with archives.writing(ONE) as file:
        file.write(b"content")
    assert not archives.path(ONE).exists()
    archives.keep(ONE)
    assert archives.path(ONE).read_bytes() == b"content"
    assert b"".join(archives.chunks(ONE)) == b"content"
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "snapshots").rglob("*")}
    assert modes == {0}
    assert archives.ids() == {ONE}
    archives.remove(ONE)
    archives.remove(ONE)
    assert archives.ids() == set()


def test_an_archive_that_broke_off_does_not_exist(tmp_path: Path) -> None:
    archives = Archives(tmp_path)
    archives.raw(ONE)
    with pytest.raises(ArchiveRefused):
        archives.fill(ONE, [b"no archive" * 1000], is_wanted=lambda _: True)
    with pytest.raises(SandboxMissing, match="has failed"):
        next(archives.chunks(ONE))
    assert not archives.path(ONE).exists()
    archives.remove(ONE)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SandboxMissing, match="is gone"):
        next(archives.chunks(ONE))


def test_an_archive_is_read_while_it_is_written(tmp_path: Path) -> None:
    archives, has_begun = Archives(tmp_path), threading.Event()
    whole = archive({"a": bytes(600_000), "b": bytes(100_000)})

    class Reader(threading.Thread):
        def __init__(self) -> None:
            super().__init__()
            self.pieces: list[bytes] = []
            self.has_something = threading.Event()

        def run(self) -> None:
            assert has_begun.wait(10)
            for chunk in archives.chunks(ONE):
                self.pieces.append(chunk)
                self.has_something.set()

    def source() -> Iterator[bytes]:
        yield whole[:650_000]
        for reader in readers:
            assert reader.has_something.wait(10)
        yield whole[650_000:]

    readers = [Reader(), Reader()]
    for reader in readers:
        reader.start()
    home = archives.fill(
        ONE, source(), prefix="data/", is_wanted=lambda _: True, begun=has_begun.set
    )
    archives.keep(ONE)
    for reader in readers:
        reader.join(10)
        assert len(reader.pieces) > 1
        assert b"".join(reader.pieces) == archives.path(ONE).read_bytes()
    assert contents(archives.path(ONE).read_bytes()) == {"a": bytes(600_000), "b": bytes(100_000)}
    assert home.size_bytes == archives.path(ONE).stat().st_size


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full")
def test_a_reader_gets_an_error_if_the_disk_is_full() -> None:
    file = open("/dev/full", "wb")  # noqa: SIM115 - it cannot be closed well
    growing = AppendStream(file)
    growing.write(b"content")
    with pytest.raises(OSError, match="No space left"):
        growing.end(is_whole=True)
    with pytest.raises(SandboxMissing, match="has failed"):
        next(growing.chunks(io.BytesIO()))
    with pytest.raises(OSError, match="No space left"):
        file.close()


def test_an_archive_that_is_kept_meanwhile_can_be_read(tmp_path: Path) -> None:
    archives = Archives(tmp_path)
    with archives.writing(ONE) as file:
        file.write(b"content")
    early = archives.chunks(ONE)
    archives.keep(ONE)
    assert b"".join(early) == b"content"


def test_without_a_folder_there_are_no_archives(tmp_path: Path) -> None:
    archives = Archives(tmp_path / "none")
    archives.remove(ONE)
    assert archives.ids() == set()


def test_an_unwritable_folder_raises_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    archives = Archives(tmp_path / "file" / "below")
    with pytest.raises(DataDirUnusable, match="cannot be written"):
        archives.raw(ONE)
