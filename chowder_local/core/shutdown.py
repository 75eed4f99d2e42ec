"""The server's shutdown, which ends endless streams."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Shutdown:
    """Calls callbacks when the server stops accepting requests."""

    def __init__(self) -> None:
        self.has_begun = False
        self._ends: dict[object, Callable[[], None]] = {}

    def begin(self) -> None:
        """Calls all callbacks; a second call does nothing."""
        self.has_begun = True
        while self._ends:
            _, end = self._ends.popitem()
            end()

    @contextmanager
    def on_shutdown(self, end: Callable[[], None]) -> Iterator[None]:
        """Calls `end` when the shutdown begins within the block, or at once if it has begun."""
        # Callbacks are cheaper than a waiting task for each of many streams.
        token = object()
        if self.has_begun:
            end()
        else:
            self._ends[token] = end
        try:
            yield
        finally:
            self._ends.pop(token, None)
