"""Leases: files that record what a process has made elsewhere and that must not outlive it.

A lease is in force for as long as its process has locked a file beside it; the kernel unlocks that
with the process's end, however it ends. Process ids would be reused.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from filelock import FileLock, Timeout

from chowder_local.core.data_dir import PRIVATE_FILE, make_private_folder, touch_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SUFFIX = ".json"


@dataclass
class Lease:
    """A few facts about what was made, which may be secrets: only its user can read the file."""

    path: Path
    facts: dict[str, str]
    _lock: FileLock = field(repr=False)

    @classmethod
    def take(cls, folder: Path, facts: Mapping[str, str]) -> Self:
        """A new one of this process. Raises OSError."""
        make_private_folder(folder)
        path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
        lock = _lock_of(path)
        lock.acquire()
        began = datetime.now(UTC).isoformat(timespec="seconds")
        made = cls(path, {"began_at": began, "pid": str(os.getpid()), **facts}, lock)
        made._write()
        return made

    def update(self, **facts: str) -> None:
        """Adds facts. Raises OSError."""
        self.facts |= facts
        self._write()

    def end(self) -> None:
        """Removes it, once what was made is gone."""
        self.path.unlink(missing_ok=True)
        self._lock.release()
        self.path.with_suffix(".lock").unlink(missing_ok=True)

    def _write(self) -> None:
        part = self.path.with_suffix(".part")
        touch_private(part)
        part.write_text(json.dumps(self.facts))
        part.replace(self.path)


def abandoned(folder: Path) -> Iterator[Lease]:
    """The leases whose process has ended, each locked until the next one is requested."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        lock = _lock_of(path)
        try:
            with lock.acquire(timeout=0):
                facts = json.loads(path.read_text())
                yield Lease(path, {str(name): str(value) for name, value in facts.items()}, lock)
        except (Timeout, OSError, ValueError, AttributeError):
            # In use, just ended by another process, or no lease.
            continue


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"), mode=PRIVATE_FILE)
