"""The server's shutdown, which ends streams that would go on for ever."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Shutdown:
    """Begins once, when no new requests are taken any more."""

    def __init__(self) -> None:
        self.has_begun = False
        self._ends: dict[object, Callable[[], None]] = {}

    def begin(self) -> None:
        """Calls all callbacks; the second time, it does nothing."""
        self.has_begun = True
        while self._ends:
            _, end = self._ends.popitem()
            end()

    @contextmanager
    def on_shutdown(self, end: Callable[[], None]) -> Iterator[None]:
        """Calls `end` if the shutdown begins while inside the block, or has begun before it."""
        # A callback each, not a task that waits: streams are many, and this happens once.
        mine = object()
        if self.has_begun:
            end()
        else:
            self._ends[mine] = end
        try:
            yield
        finally:
            self._ends.pop(mine, None)
