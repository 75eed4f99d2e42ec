"""Tells viewers that something in memory has changed, so that what they show is never outdated."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class ChangeSignal:
    """One event for each viewer. Use it in one event loop only."""

    def __init__(self) -> None:
        self._viewers: set[asyncio.Event] = set()

    @property
    def has_viewers(self) -> bool:
        return bool(self._viewers)

    @contextmanager
    def watching(self) -> Iterator[asyncio.Event]:
        """An event that is set at each change during the block; the viewer clears it."""
        changed = asyncio.Event()
        self._viewers.add(changed)
        try:
            yield changed
        finally:
            self._viewers.discard(changed)

    def notify(self) -> None:
        for changed in self._viewers:
            changed.set()
