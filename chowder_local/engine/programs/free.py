"""Prints how many more bytes an agent can write; 0 also if the disk has no free inodes."""

from __future__ import annotations

import os
import sys


def free_bytes(root: str) -> int:
    """The free bytes for unprivileged users, without root's reserve."""
    status = os.statvfs(root)
    # File systems with unlimited inodes report 0 of them.
    is_out_of_inodes = status.f_files > 0 and status.f_favail == 0
    return 0 if is_out_of_inodes else status.f_bavail * status.f_frsize


if __name__ == "__main__":
    print(free_bytes(sys.argv[1]))  # noqa: T201 - the result
