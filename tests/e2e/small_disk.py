"""A real file system that a test can fill; needs Linux and root."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """The folder where an ext4 of so many bytes is mounted; its file takes what is in it only."""
    content, disk = folder / "disk", folder / "mounted"
    disk.mkdir()
    with content.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", content], check=True)
    subprocess.run(["mount", "-o", "loop", content, disk], check=True)
    try:
        yield disk
    finally:
        # An engine mounts its folder again, over itself.
        subprocess.run(["umount", "--recursive", disk], check=True)


def fill(path: Path) -> None:
    """Writes a file until its disk has no room."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 9):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    os.sync()
