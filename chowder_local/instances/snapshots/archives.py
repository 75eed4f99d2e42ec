"""The archives of snapshots' homes, as files in the data directory."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from chowder_local.core.domain import SnapshotId
from chowder_local.core.errors.process import data_dir_failure
from chowder_local.core.errors.sandboxes import SandboxMissing
from chowder_local.openclaw.home import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

CHUNK_BYTES = 1024 * 1024
STEP_BYTES = 256 * 1024
"""Readers are notified after at least so many new bytes."""


@dataclass(eq=False, repr=False)
class AppendStream:
    """Appends to a file through `write`; `chunks` reads all of it from the beginning meanwhile."""

    file: IO[bytes]

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._written = self._readable = 0
        self._is_whole: bool | None = None

    def write(self, content: bytes) -> int:
        count = self.file.write(content)
        self._written += count
        if self._written - self._readable >= STEP_BYTES:
            self._publish()
        return count

    def tell(self) -> int:
        """The number of bytes written."""
        return self._written

    def end(self, *, is_whole: bool) -> None:
        """Ends the stream: the file `is_whole`, or writing it has failed."""
        try:
            if is_whole:
                self._publish()
        except OSError:
            is_whole = False
            raise
        finally:
            with self._changed:
                self._is_whole = is_whole
                self._changed.notify_all()

    def chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        """The content of the file, which is open for reading, to the end of the stream. Blocks.

        Raises SandboxMissing if writing the file fails.
        """
        while (size := self._wait_for_more(file.tell())) > 0:
            yield file.read(min(size, CHUNK_BYTES))

    def _wait_for_more(self, position: int) -> int:
        """Waits for readable bytes after the position; their number, 0 at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._readable > position or self._is_whole is not None)
            if self._is_whole is False:
                raise SandboxMissing("The copy that the agent was to be created from has failed.")
            return self._readable - position

    def _publish(self) -> None:
        self.file.flush()
        with self._changed:
            self._readable = self._written
            self._changed.notify_all()


RAW, PART, WHOLE = ".raw", ".part", ".tar"


@dataclass(eq=False, repr=False)
class Archives:
    """One archive for each snapshot, and the files that it is written from; all calls block."""

    folder: Path

    def __post_init__(self) -> None:
        self._streams: dict[SnapshotId, AppendStream] = {}

    def path(self, snapshot_id: SnapshotId) -> Path:
        """The path of a snapshot's archive, whether it exists or not."""
        return self.folder / f"{snapshot_id}{WHOLE}"

    def raw(self, snapshot_id: SnapshotId) -> Path:
        """A new file for an uploaded archive. Raises DataDirUnusable."""
        return self._create(snapshot_id, RAW)

    def fill(
        self,
        snapshot_id: SnapshotId,
        source: Iterable[bytes],
        *,
        is_wanted: Callable[[str], bool],
        prefix: str = "",
        is_strict: bool = False,
        max_bytes: int = sanitize.MAX_BYTES,
        begun: Callable[[], object] | None = None,
    ) -> sanitize.SanitizedHome:
        """Writes the archive from another one, as `sanitize_home` does; `keep` then keeps it.

        Calls `begun` once `chunks` can read the archive. Raises ArchiveRefused, DataDirUnusable,
        and what the source raises.
        """
        with self.writing(snapshot_id) as target:
            if begun is not None:
                begun()
            return sanitize.sanitize_home(
                source,
                target,
                prefix=prefix,
                is_wanted=is_wanted,
                is_strict=is_strict,
                max_bytes=max_bytes,
            )

    @contextmanager
    def writing(self, snapshot_id: SnapshotId) -> Iterator[AppendStream]:
        """A stream for the content that `keep` then keeps. Raises DataDirUnusable."""
        part = self._create(snapshot_id, PART)
        with _explained_errors(part), part.open("wb") as file:
            stream = self._streams[snapshot_id] = AppendStream(file)
            is_whole = False
            try:
                yield stream
                is_whole = True
            finally:
                stream.end(is_whole=is_whole)

    def keep(self, snapshot_id: SnapshotId) -> None:
        """Makes what was written the snapshot's archive, durably. Raises DataDirUnusable."""
        part = self.folder / f"{snapshot_id}{PART}"
        with _explained_errors(part), part.open("r+b") as file:
            os.fsync(file.fileno())
            part.replace(self.path(snapshot_id))
        self._streams.pop(snapshot_id, None)

    def chunks(self, snapshot_id: SnapshotId) -> Iterator[bytes]:
        """The archive's content; waits for more while it is being written.

        Raises DataDirUnusable, and SandboxMissing if it is gone or writing it fails.
        """
        stream = self._streams.get(snapshot_id)
        path = self.path(snapshot_id)
        with _explained_errors(path), self._open(snapshot_id) as file:
            if stream is not None:
                yield from stream.chunks(file)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def remove(self, snapshot_id: SnapshotId) -> None:
        """Removes all files of a snapshot. Raises DataDirUnusable."""
        with _explained_errors(self.folder):
            for suffix in (WHOLE, RAW, PART):
                with suppress(FileNotFoundError):
                    (self.folder / f"{snapshot_id}{suffix}").unlink()
        self._streams.pop(snapshot_id, None)

    def ids(self) -> set[SnapshotId]:
        """The snapshots that have files."""
        if not self.folder.is_dir():
            return set()
        with _explained_errors(self.folder):
            return {SnapshotId(path.name.partition(".")[0]) for path in self.folder.iterdir()}

    def _open(self, snapshot_id: SnapshotId) -> IO[bytes]:
        # In this order, because `keep` may rename the first to the second meanwhile.
        for suffix in (PART, WHOLE):
            with suppress(FileNotFoundError):
                return (self.folder / f"{snapshot_id}{suffix}").open("rb")
        raise SandboxMissing("The copy that the agent was to be created from is gone.")

    def _create(self, snapshot_id: SnapshotId, suffix: str) -> Path:
        with _explained_errors(self.folder):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            path = self.folder / f"{snapshot_id}{suffix}"
            # Created with its mode, which opening it for writing then keeps.
            path.touch(mode=0o600)
        return path


@contextmanager
def _explained_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise data_dir_failure(
            error, f"{path} cannot be written: {error.strerror}. Make room or make it writable."
        ) from error
