"""The files that snapshots' homes are kept in, in the data directory."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from chowder_local.core.domain import SnapshotId
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.errors.sandboxes import SandboxMissing
from chowder_local.instances.snapshots.append_stream import CHUNK_BYTES, AppendStream
from chowder_local.openclaw.home import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

RAW, PART, WHOLE = ".raw", ".part", ".tar"


class Archives:
    """A file for each snapshot, and beside it what it is being made of; all calls block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._growing: dict[SnapshotId, AppendStream] = {}

    def path(self, snapshot_id: SnapshotId) -> Path:
        """Where its archive is, or will be."""
        return self._folder / f"{snapshot_id}{WHOLE}"

    def raw(self, snapshot_id: SnapshotId) -> Path:
        """Where an archive from elsewhere comes first. Raises DataDirUnusable."""
        return self._made(snapshot_id, RAW)

    def fill(
        self,
        snapshot_id: SnapshotId,
        source: Iterable[bytes],
        *,
        is_wanted: Callable[[str], bool],
        prefix: str = "",
        is_strict: bool = False,
        begun: Callable[[], object] | None = None,
    ) -> sanitize.SanitizedHome:
        """Makes of another archive what `keep` then makes this one; see `sanitize_home`.

        Tells when it has begun, and `chunks` is as good as if it were whole.
        Raises ArchiveRefused, DataDirUnusable, and what the source raises.
        """
        with self.writing(snapshot_id) as target:
            if begun is not None:
                begun()
            return sanitize.sanitize_home(
                source, target, prefix=prefix, is_wanted=is_wanted, is_strict=is_strict
            )

    @contextmanager
    def writing(self, snapshot_id: SnapshotId) -> Iterator[AppendStream]:
        """What is to become the archive, for `keep` once the block has ended well.

        Raises DataDirUnusable.
        """
        part = self._made(snapshot_id, PART)
        with _in_words(part), part.open("wb") as file:
            growing = self._growing[snapshot_id] = AppendStream(file)
            is_whole = False
            try:
                yield growing
                is_whole = True
            finally:
                growing.end(is_whole=is_whole)

    def keep(self, snapshot_id: SnapshotId) -> None:
        """Makes what was written the archive, which then lasts. Raises DataDirUnusable."""
        part = self._folder / f"{snapshot_id}{PART}"
        with _in_words(part), part.open("r+b") as file:
            os.fsync(file.fileno())
            part.replace(self.path(snapshot_id))
        self._growing.pop(snapshot_id, None)

    def chunks(self, snapshot_id: SnapshotId) -> Iterator[bytes]:
        """The archive's content, even while it is written; waits for it.

        Raises DataDirUnusable, and SandboxMissing if it is gone, or does not become whole.
        """
        growing = self._growing.get(snapshot_id)
        path = self.path(snapshot_id)
        with _in_words(path), self._opened(snapshot_id) as file:
            if growing is not None:
                yield from growing.chunks(file)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def remove(self, snapshot_id: SnapshotId) -> None:
        """Takes away all that there is of it. Raises DataDirUnusable."""
        with _in_words(self._folder):
            for suffix in (WHOLE, RAW, PART):
                with suppress(FileNotFoundError):
                    (self._folder / f"{snapshot_id}{suffix}").unlink()
        self._growing.pop(snapshot_id, None)

    def ids(self) -> set[SnapshotId]:
        """Of what there are files of."""
        if not self._folder.is_dir():
            return set()
        with _in_words(self._folder):
            return {SnapshotId(path.name.partition(".")[0]) for path in self._folder.iterdir()}

    def _opened(self, snapshot_id: SnapshotId) -> IO[bytes]:
        # In the order in which it goes from one to the other.
        for suffix in (PART, WHOLE):
            with suppress(FileNotFoundError):
                return (self._folder / f"{snapshot_id}{suffix}").open("rb")
        raise SandboxMissing("The copy that the agent was to be made of is gone.")

    def _made(self, snapshot_id: SnapshotId, suffix: str) -> Path:
        with _in_words(self._folder):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._folder / f"{snapshot_id}{suffix}"
            # Whoever writes it finds it there, for us only.
            path.touch(mode=0o600)
        return path


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failed:
        raise DataDirUnusable(
            f"{path} cannot be written: {failed.strerror}. Make room or make it writable."
        ) from failed
