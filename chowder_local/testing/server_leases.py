"""Which runs of pytest need the tests' server, so that the last of them ends it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class ServerLeases:
    """A folder with a file for each run: named by its process, with the kind of server in it, and
    when that process was started, since its number may be another's by the time it is read.

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
            (self._folder / str(run)).write_text(f"{kind} {_started(run)}")
            yield

    def give_up(self, run: int, end: Callable[[str], None]) -> None:
        """Ends each kind of server that was for `run`, or for one that was killed, alone."""
        if not self._over(run):
            # No lock: another run may be building an image within it.
            return
        with self._lock:
            over = self._over(run)
            unwanted = {_kind(lease) for lease in over}
            for lease in over:
                lease.unlink()
            wanted = {_kind(lease) for lease in self._all()}
            for kind in sorted(unwanted - wanted):
                end(kind)

    def _over(self, run: int) -> list[Path]:
        """The leases of that run, and of those that were killed."""
        return [
            lease for lease in self._all() if int(lease.name) == run or not _is_process_there(lease)
        ]

    def _all(self) -> list[Path]:
        # Desktops leave files of their own in folders that somebody has looked at.
        return [each for each in self._folder.glob("*") if each.name.isdecimal()]


def _kind(lease: Path) -> str:
    return lease.read_text().partition(" ")[0]


def _is_process_there(lease: Path) -> bool:
    try:
        _, _, started = lease.read_text().partition(" ")
    except FileNotFoundError:
        # Its run has just ended it.
        return True
    return started == _started(int(lease.name))


def _started(process: int) -> str | None:
    """What tells a process from a later one of the same number; None if it is not there."""
    import psutil

    try:
        # The kernel's own count does not move with the clock.
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        try:
            return f"{psutil.Process(process).create_time():.0f}"
        except psutil.NoSuchProcess:
            return None
    return stat.rpartition(")")[2].split()[19]
