"""How the program speaks to people: its name in a shell, numbers, and progress line by line."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

from chowder_local.core.data_dir_layout import default_data_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,6})h)?(?:(\d{1,7})m)?(?:(\d{1,9})s)?")


def parse_duration(text: str) -> timedelta:
    """A duration such as `25h` or `1d12h30m`. Raises ValueError."""
    parts = _DURATION.fullmatch(text)
    if parts is None or not any(parts.groups()):
        raise ValueError("It should be a duration such as 25h, 90m or 1d12h")
    days, hours, minutes, seconds = (int(each or 0) for each in parts.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def count_of(number: int, noun: str) -> str:
    """A number with its noun, such as `1 agent` and `2 agents`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size_of(size_bytes: float) -> str:
    """A number of bytes with a decimal unit."""
    for unit in ("B", "kB", "MB"):
        if abs(size_bytes) < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


PROGRAM = "chowder-local"


def program(data_dir: Path, path: str | None = None) -> str:
    """The command for a data directory; `path` is searched in place of the PATH.

    The virtual environment may not be on the PATH, and the shell into which a user pastes the
    command may lack variables of this process.
    """
    script = Path(sys.executable).with_name(PROGRAM)
    command = [PROGRAM]
    if shutil.which(PROGRAM, path=path) is None:
        command = [str(script)] if script.exists() else [sys.executable, "-m", "chowder_local"]
    if data_dir != default_data_dir():
        command += ["--data-dir", str(data_dir.absolute())]
    return shlex.join(command)


MOMENT_S = 1.0
"""What takes no longer needs no word."""


@contextmanager
def progress_lines(
    write: Callable[[str], None], first: str, after_s: float = 0.0
) -> Iterator[Callable[[str], None]]:
    """Writes the state `first`; yields a function to call with each new state.

    Nothing is written before `after_s` seconds, and then the state at that time.
    """
    latest, is_late = first, after_s == 0

    def update(state: str) -> None:
        nonlocal latest
        if state != latest:
            latest = state
            if is_late:
                write(state)

    def begin() -> None:
        nonlocal is_late
        is_late = True
        write(latest)

    if is_late:
        write(first)
    timer = Timer(after_s, begin)
    if not is_late:
        timer.start()
    try:
        yield update
    finally:
        timer.cancel()
