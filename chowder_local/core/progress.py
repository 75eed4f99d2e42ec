"""Says line by line what a person waits for."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Timer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
