"""Leases of pytest runs on the tests' server, so that the last run ends it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(eq=False, repr=False)
class ServerLeases:
    """A folder with a file for each run, named by its process id.

    The file has the kind of server, and the start time of the process, because process ids are used
    again. Runs of one project may share a server. It is started and ended within a lock, so that no
    run gets a server that another run is about to end.
    """

    folder: Path

    def __post_init__(self) -> None:
        self._lock = FileLock(self.folder.with_suffix(".lock"))

    @contextmanager
    def take(self, run: int, kind: str) -> Iterator[None]:
        """Takes a lease for the process `run`; the server is to be started within this context."""
        with self._lock:
            self.folder.mkdir(exist_ok=True)
            # Before the start, so that a server that fails to start is ended as well.
            (self.folder / str(run)).write_text(f"{kind} {_start_time(run)}")
            yield

    def release(self, run: int, end: Callable[[str], None]) -> None:
        """Removes the leases of `run` and of killed runs, and ends servers without a lease."""
        if not self._ended(run):
            # Not within the lock: another run may hold it to build an image.
            return
        with self._lock:
            ended = self._ended(run)
            unused = {_kind(lease) for lease in ended}
            for lease in ended:
                lease.unlink()
            unused -= {_kind(lease) for lease in self._all()}
            for kind in sorted(unused):
                end(kind)

    def _ended(self, run: int) -> list[Path]:
        """The leases of the run, and those of killed runs."""
        return [lease for lease in self._all() if int(lease.name) == run or not _is_running(lease)]

    def _all(self) -> list[Path]:
        # Desktops add files of their own to folders, such as .DS_Store.
        return [each for each in self.folder.glob("*") if each.name.isdecimal()]


def _kind(lease: Path) -> str:
    return lease.read_text().partition(" ")[0]


def _is_running(lease: Path) -> bool:
    try:
        _, _, start_time = lease.read_text().partition(" ")
    except FileNotFoundError:
        # Its run has just released it.
        return True
    return start_time == _start_time(int(lease.name))


def _start_time(process: int) -> str | None:
    """The start time of a process, which tells it from others of its id; None without a process."""
    import psutil

    try:
        # Unlike psutil's time, the kernel's does not change with the clock.
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        try:
            return f"{psutil.Process(process).create_time():.0f}"
        except psutil.NoSuchProcess:
            return None
    return stat.rpartition(")")[2].split()[19]
