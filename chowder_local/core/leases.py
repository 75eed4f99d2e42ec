"""What a process has made elsewhere and must not outlive it, in files that others can look at.

A file is its process's for as long as that holds a lock beside it; the kernel lets go of that with
the process, however it ends. A number of a process would be another's some day.
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
    """What was made, in a few texts, which may be secrets: the file is its user's alone."""

    path: Path
    facts: dict[str, str]
    _lock: FileLock = field(repr=False)

    @classmethod
    def take(cls, folder: Path, facts: Mapping[str, str]) -> Self:
        """A new one, which is this process's until it ends. Raises OSError."""
        make_private_folder(folder)
        path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
        lock = _lock_of(path)
        lock.acquire()
        began = datetime.now(UTC).isoformat(timespec="seconds")
        made = cls(path, {"began_at": began, "pid": str(os.getpid()), **facts}, lock)
        made._write()
        return made

    def update(self, **facts: str) -> None:
        """Adds what was not known before. Raises OSError."""
        self.facts |= facts
        self._write()

    def end(self) -> None:
        """Says that what was made is gone."""
        self.path.unlink(missing_ok=True)
        self._lock.release()
        self.path.with_suffix(".lock").unlink(missing_ok=True)

    def _write(self) -> None:
        part = self.path.with_suffix(".part")
        touch_private(part)
        part.write_text(json.dumps(self.facts))
        part.replace(self.path)


def abandoned(folder: Path) -> Iterator[Lease]:
    """Those whose process is no more, each held until the next one is asked for."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        lock = _lock_of(path)
        try:
            with lock.acquire(timeout=0):
                facts = json.loads(path.read_text())
                yield Lease(path, {str(name): str(value) for name, value in facts.items()}, lock)
        except (Timeout, OSError, ValueError, AttributeError):
            # In use, or just ended by another process; or none of ours.
            continue


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"), mode=PRIVATE_FILE)
