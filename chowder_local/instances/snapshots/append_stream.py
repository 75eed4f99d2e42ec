"""A file that one thread writes while others read it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from chowder_local.core.errors.sandboxes import SandboxMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 1024 * 1024
STEP_BYTES = 256 * 1024
"""Readers are notified after at least so many new bytes."""


@dataclass(eq=False, repr=False)
class AppendStream:
    """Appends to a file through `write`; `chunks` reads all of it from the beginning meanwhile."""

    file: IO[bytes]

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._written = self._readable = 0
        self._is_whole: bool | None = None

    def write(self, content: bytes) -> int:
        count = self.file.write(content)
        self._written += count
        if self._written - self._readable >= STEP_BYTES:
            self._publish()
        return count

    def tell(self) -> int:
        """The number of bytes written."""
        return self._written

    def end(self, *, is_whole: bool) -> None:
        """Ends the stream: the file `is_whole`, or writing it has failed."""
        try:
            if is_whole:
                self._publish()
        except OSError:
            is_whole = False
            raise
        finally:
            with self._changed:
                self._is_whole = is_whole
                self._changed.notify_all()

    def chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        """The content of the file, which is open for reading, to the end of the stream. Blocks.

        Raises SandboxMissing if writing the file fails.
        """
        while (size := self._wait_for_more(file.tell())) > 0:
            yield file.read(min(size, CHUNK_BYTES))

    def _wait_for_more(self, position: int) -> int:
        """Waits for readable bytes after the position; their number, 0 at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._readable > position or self._is_whole is not None)
            if self._is_whole is False:
                raise SandboxMissing("The copy that the agent was to be created from has failed.")
            return self._readable - position

    def _publish(self) -> None:
        self.file.flush()
        with self._changed:
            self._readable = self._written
            self._changed.notify_all()
