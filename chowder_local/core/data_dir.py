"""The data directory as a place for secrets: it and its files are ours alone, by any umask."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from chowder_local.core.errors.process import DataDirUnusable

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def make_private_folder(folder: Path) -> None:
    """Makes the folder if it is not there; one that is empty becomes ours alone, too.

    What else is in a folder that is shared with others may have to be shared, so there only our
    own files are closed. Raises OSError.
    """
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    state = folder.stat()
    is_open = stat.S_IMODE(state.st_mode) & ~PRIVATE_FOLDER
    if is_open and state.st_uid == os.geteuid() and not any(folder.iterdir()):
        folder.chmod(PRIVATE_FOLDER)


def touch_private(path: Path) -> None:
    """Makes the file if it is not there, and closes it to others if it is. Raises OSError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE))
    path.chmod(PRIVATE_FILE)


def write_private(path: Path, content: bytes) -> None:
    """Writes a whole file that only we can read, or none: no reader ever sees half of it.

    Raises DataDirUnusable.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        sync(part)
        part.replace(path)
        # The new name is in the directory, and survives a power cut only with it.
        sync(path.parent)
    except OSError as failed:
        with suppress(OSError):
            part.unlink()
        raise DataDirUnusable(
            f"{path} cannot be written: {failed.strerror}. Make room or make it writable, "
            "or choose another directory with --data-dir."
        ) from failed


def sync(path: Path) -> None:
    """Lets a file or a directory survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def opened_log(path: Path) -> IO[bytes]:
    """The log file, to be appended to; its folder is made if need be. Raises DataDirUnusable."""
    try:
        make_private_folder(path.parent)
        touch_private(path)
        return path.open("ab")
    except OSError as failure:
        raise unusable(path.parent, failure) from failure


def unusable(folder: Path, failure: OSError) -> DataDirUnusable:
    """The error for a data directory that cannot be used."""
    return DataDirUnusable(
        f"The data directory {folder} cannot be used: {failure.strerror}. "
        "Make room or mend its permissions, or choose another one with --data-dir."
    )
