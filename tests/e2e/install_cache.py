"""Folders in the user's cache for installations that test runs share."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@contextmanager
def cached_folder(name: str, inputs: Iterable[Path]) -> Iterator[Path]:
    """The cache folder for these inputs, locked against other processes within the block.

    It is empty if the content of `inputs`, or the Python, is not that of the latest run.
    """
    root = user_cache_path("chowder-local-tests")
    root.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(f"{sys.base_prefix} {sys.version}".encode())
    for file in inputs:
        digest.update(file.read_bytes())
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = root / f"{name}-{digest.hexdigest()[:16]}"
        if not folder.exists():
            for other in root.glob(f"{name}-*"):
                shutil.rmtree(other)
            folder.mkdir()
        yield folder
