"""Prints how many bytes of disk a sandbox uses, counted up to a limit.

It runs as root with all capabilities, because an agent may lock its own folders and keep deleted
files open. It stops at the limit, and at a number of files that no real agent has.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_BYTES = 512
FILES_MAX = 1_000_000


def entries(root: str, processes: str) -> Iterator[os.stat_result]:
    """All files on the volume, with deleted ones that are still open; some may come twice."""
    yield os.lstat(root)
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            with suppress(OSError):
                yield os.lstat(os.path.join(folder, name))
    for process in filter(str.isdecimal, os.listdir(processes)):
        yield from deleted_files(os.path.join(processes, process, "fd"))


def deleted_files(descriptors: str) -> Iterator[os.stat_result]:
    """Deleted files that a process keeps open; `descriptors` is its `fd` folder."""
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(descriptors)
    for name in names:
        with suppress(OSError):
            status = os.stat(os.path.join(descriptors, name))
            if status.st_nlink == 0:
                yield status


def measure(root: str, processes: str, limit: int) -> int:
    """The used bytes; more than the limit if there are more than FILES_MAX files."""
    device = os.lstat(root).st_dev
    seen: set[int] = set()
    total = 0
    for status in entries(root, processes):
        if status.st_dev != device or status.st_ino in seen:
            continue
        seen.add(status.st_ino)
        total += status.st_blocks * BLOCK_BYTES
        if len(seen) > FILES_MAX:
            return limit + 1
        if total > limit:
            break
    return total


if __name__ == "__main__":
    print(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))  # noqa: T201 - the result
