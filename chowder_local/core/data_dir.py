"""Files and folders of the data directory that only this user can read, and leases in it."""

from __future__ import annotations

import json
import os
import secrets
import stat
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Self

from filelock import FileLock, Timeout

from chowder_local.core.errors.process import DataDirFull, DataDirUnusable, data_dir_failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
SMALL_FILE_BYTES = 128 * 1024
"""Enough for what SQLite shares memory by (32 KiB), on a file system that rounds up."""


def make_private_folder(folder: Path) -> None:
    """Makes a missing folder, and makes it or an existing empty one private.

    A folder with content stays as it is: other users may need it. Raises OSError if the folder
    cannot be made.
    """
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    state = folder.stat()
    is_open = stat.S_IMODE(state.st_mode) & ~PRIVATE_FOLDER
    if is_open and state.st_uid == os.geteuid() and not any(folder.iterdir()):
        folder.chmod(PRIVATE_FOLDER)


def touch_private(path: Path) -> None:
    """Makes a missing file, and makes it private. Raises OSError if that fails."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE))
    path.chmod(PRIVATE_FILE)


def write_private(path: Path, content: bytes) -> None:
    """Writes a private file atomically. Raises DataDirUnusable if it cannot be written."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        sync(part)
        part.replace(path)
        # The new name is an entry of the directory, which needs a sync of its own.
        sync(path.parent)
    except OSError as failed:
        with suppress(OSError):
            part.unlink()
        raise data_dir_failure(
            failed,
            f"{path} cannot be written: {failed.strerror}. Free space or make it writable, "
            "or choose another directory with --data-dir.",
        ) from failed


def sync(path: Path) -> None:
    """Flushes a file or directory to disk, to survive a power cut. Raises OSError on failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_log(path: Path) -> IO[bytes]:
    """Opens a log file for appending, and makes its folder.

    Raises DataDirUnusable if either fails.
    """
    try:
        make_private_folder(path.parent)
        touch_private(path)
        return path.open("ab")
    except OSError as failure:
        raise unusable(path.parent, failure) from failure


def unusable(folder: Path, failure: OSError) -> DataDirUnusable:
    """The error for a data directory that cannot be used."""
    return data_dir_failure(
        failure,
        f"The data directory {folder} cannot be used: {failure.strerror}. "
        "Free space or correct its permissions, or choose another one with --data-dir.",
    )


def full(folder: Path) -> DataDirFull:
    """The error for a data directory on a full disk."""
    return DataDirFull(
        f"The disk that holds {folder} is full. Free some space, or choose another directory with "
        "--data-dir."
    )


def is_full(folder: Path) -> bool:
    """Whether the folder's disk has no room for a small file."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    # File systems with unlimited inodes report 0 of them.
    is_out_of_inodes = disk.f_files > 0 and disk.f_favail == 0
    return is_out_of_inodes or disk.f_bavail * disk.f_frsize < SMALL_FILE_BYTES


SUFFIX = ".json"


@dataclass
class Lease:
    """Facts about a resource. They may be secrets, so only the user can read the file."""

    path: Path
    facts: dict[str, str]
    _lock: FileLock = field(repr=False)

    @classmethod
    def take(cls, folder: Path, facts: Mapping[str, str]) -> Self:
        """A new lease of this process. Raises OSError if it cannot be written."""
        make_private_folder(folder)
        path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
        lock = _lock_of(path)
        lock.acquire()
        began_at = datetime.now(UTC).isoformat(timespec="seconds")
        lease = cls(path, {"began_at": began_at, "pid": str(os.getpid()), **facts}, lock)
        lease._write()
        return lease

    def update(self, **facts: str) -> None:
        """Adds facts. Raises OSError if they cannot be written."""
        self.facts |= facts
        self._write()

    def end(self) -> None:
        """Removes the lease after its resource was removed."""
        self.path.unlink(missing_ok=True)
        self._lock.release()
        self.path.with_suffix(".lock").unlink(missing_ok=True)

    def _write(self) -> None:
        part = self.path.with_suffix(".part")
        touch_private(part)
        part.write_text(json.dumps(self.facts))
        part.replace(self.path)


def abandoned_leases(folder: Path) -> Iterator[Lease]:
    """The leases of ended processes, each locked until the iterator advances."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        lock = _lock_of(path)
        try:
            with lock.acquire(timeout=0):
                facts = json.loads(path.read_text())
                yield Lease(path, {str(name): str(value) for name, value in facts.items()}, lock)
        except (Timeout, OSError, ValueError, AttributeError):
            # It is in use, another process has just ended it, or the file is no lease.
            continue


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"), mode=PRIVATE_FILE)
