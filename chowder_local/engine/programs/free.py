"""Says how many bytes more an agent may write; none, too, where no more files can be."""

from __future__ import annotations

import os
import sys


def free_bytes(root: str) -> int:
    """What is left for everybody: root may have a reserve."""
    found = os.statvfs(root)
    # Some file systems make room for as many files as there are, and count none.
    is_out_of_files = found.f_files > 0 and found.f_favail == 0
    return 0 if is_out_of_files else found.f_bavail * found.f_frsize


if __name__ == "__main__":
    print(free_bytes(sys.argv[1]))  # noqa: T201 - its answer
