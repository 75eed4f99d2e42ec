"""Which runs of pytest need the tests' server, so that the last of them ends it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Leases:
    """A folder with a file for each run: named by its process, with the kind of server in it.

    Two runs in one project may use one server at a time. Whoever starts or ends it does so within
    a lock, so that no run is given a server that another one is about to end.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder.with_suffix(".lock"))

    @contextmanager
    def take(self, run: int, kind: str) -> Iterator[None]:
        """A time to start a server, for the process `run` until it gives that up or is no more."""
        with self._lock:
            self._folder.mkdir(exist_ok=True)
            # Before it is started: one that comes only half up is to be ended as well.
            (self._folder / str(run)).write_text(kind)
            yield

    def give_up(self, run: int, end: Callable[[str], None]) -> None:
        """Ends each kind of server that was for `run`, or for one that was killed, alone."""
        if not self._over(run):
            # No lock: another run may be building an image within it.
            return
        with self._lock:
            over = self._over(run)
            unwanted = {lease.read_text() for lease in over}
            for lease in over:
                lease.unlink()
            wanted = {lease.read_text() for lease in self._all()}
            for kind in sorted(unwanted - wanted):
                end(kind)

    def _over(self, run: int) -> list[Path]:
        """The leases of that run, and of those that were killed."""
        others = [(lease, int(lease.name)) for lease in self._all()]
        return [lease for lease, other in others if other == run or not _is_alive(other)]

    def _all(self) -> list[Path]:
        # Desktops leave files of their own in folders that somebody has looked at.
        return [each for each in self._folder.glob("*") if each.name.isdecimal()]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Another user's.
        return True
    return True
