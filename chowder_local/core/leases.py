"""Leases: files that record resources which must not outlive the process that made them.

The process locks a file beside each lease, which the kernel unlocks when the process ends in any
way. A process id would not do, because it is reused.
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


def abandoned(folder: Path) -> Iterator[Lease]:
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
