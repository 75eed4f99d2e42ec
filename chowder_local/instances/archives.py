"""The files that snapshots' homes are kept in, in the data directory."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from chowder_local.domain import SnapshotId
from chowder_local.errors.process import DataDirUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RAW, WHOLE = ".raw", ".tar"


class Archives:
    """A file for each snapshot, and beside it what it is being made of; all calls block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, snapshot_id: SnapshotId) -> Path:
        """Where its archive is, or will be."""
        return self._folder / f"{snapshot_id}{WHOLE}"

    def raw(self, snapshot_id: SnapshotId) -> Path:
        """Where that comes first which the archive is made of. Raises DataDirUnusable."""
        with _in_words(self._folder):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._folder / f"{snapshot_id}{RAW}"
            # Whoever writes it finds it there, for us only.
            path.touch(mode=0o600)
        return path

    @contextmanager
    def writing(self, snapshot_id: SnapshotId) -> Iterator[IO[bytes]]:
        """The archive, which is there once the block ends well. Raises DataDirUnusable."""
        part = self._folder / f"{snapshot_id}.part"
        with _in_words(part):
            part.touch(mode=0o600)
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path(snapshot_id))

    def remove_raw(self, snapshot_id: SnapshotId) -> None:
        """Takes away what the archive was made of. Raises DataDirUnusable."""
        with _in_words(self._folder):
            (self._folder / f"{snapshot_id}{RAW}").unlink(missing_ok=True)

    def remove(self, snapshot_id: SnapshotId) -> None:
        """Takes away all that there is of it. Raises DataDirUnusable."""
        with _in_words(self._folder):
            for suffix in (WHOLE, RAW, ".part"):
                with suppress(FileNotFoundError):
                    (self._folder / f"{snapshot_id}{suffix}").unlink()

    def ids(self) -> set[SnapshotId]:
        """Of what there are files of."""
        if not self._folder.is_dir():
            return set()
        with _in_words(self._folder):
            return {SnapshotId(path.name.partition(".")[0]) for path in self._folder.iterdir()}


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failed:
        raise DataDirUnusable(
            f"{path} cannot be written: {failed.strerror}. Make room or make it writable."
        ) from failed
