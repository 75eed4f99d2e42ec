"""A file that one thread writes and others read meanwhile."""

from __future__ import annotations

import threading
from typing import IO, TYPE_CHECKING

from chowder_local.core.errors.sandboxes import SandboxMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 1024 * 1024
STEP_BYTES = 256 * 1024
"""Readers are not woken for less."""


class AppendStream:
    """Is written through `write`; `chunks` gives all of it, from its beginning, as it comes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._changed = threading.Condition()
        self._written = self._readable = 0
        self._is_whole: bool | None = None

    def write(self, content: bytes) -> int:
        """Puts all of it at the end."""
        count = self._file.write(content)
        self._written += count
        if self._written - self._readable >= STEP_BYTES:
            self._tell()
        return count

    def tell(self) -> int:
        """How much was written."""
        return self._written

    def end(self, *, is_whole: bool) -> None:
        """Nothing more is written, because that was all, or because something went wrong."""
        try:
            if is_whole:
                self._tell()
        except OSError:
            is_whole = False
            raise
        finally:
            with self._changed:
                self._is_whole = is_whole
                self._changed.notify_all()

    def chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        """What a file that was opened for reading has and will have. Blocking.

        Raises SandboxMissing if that comes to nothing.
        """
        while (size := self._beyond(file.tell())) > 0:
            yield file.read(min(size, CHUNK_BYTES))

    def _beyond(self, position: int) -> int:
        """How much more can be read, waited for unless that is all."""
        with self._changed:
            self._changed.wait_for(lambda: self._readable > position or self._is_whole is not None)
            if self._is_whole is False:
                raise SandboxMissing("The copy that the agent was to be made of came to nothing.")
            return self._readable - position

    def _tell(self) -> None:
        self._file.flush()
        with self._changed:
            self._readable = self._written
            self._changed.notify_all()
