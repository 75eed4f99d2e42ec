"""A socket between a server and the real engine that hangs, or is gone, where a test says."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

CHUNK_BYTES = 64 * 1024


class EngineDoor:
    """Carries bytes to and fro; what comes while it hangs is carried once it does no more."""

    def __init__(self, path: Path, engine_url: str) -> None:
        self._path = path
        self._engine = urlsplit(engine_url).path
        self._may_pass = threading.Event()
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """What a server takes for its engine's address."""
        return f"unix://{self._path}"

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Lets everything pass, also what has waited."""
        self._may_pass.set()
        if self._listener is None:
            self._path.unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self._path))
            self._listener.listen(64)
            threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def hang(self) -> None:
        """Takes connections and bytes as before, and lets nothing pass."""
        self._may_pass.clear()

    def close(self) -> None:
        """Is gone, and breaks what it had."""
        if self._listener is not None:
            _end(self._listener)
            self._listener = None
        self._path.unlink(missing_ok=True)
        for connection in list(self._connections):
            _end(connection)
        self._may_pass.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                here, _ = listener.accept()
            except OSError:
                # It was closed.
                return
            there = socket.socket(socket.AF_UNIX)
            there.connect(self._engine)
            self._connections |= {here, there}
            threading.Thread(target=self._join, args=(here, there), daemon=True).start()

    def _join(self, here: socket.socket, there: socket.socket) -> None:
        """Carries until neither end speaks any more."""
        with here, there:
            back = threading.Thread(target=self._carry, args=(there, here), daemon=True)
            back.start()
            self._carry(here, there)
            back.join()
        self._connections -= {here, there}

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                self._may_pass.wait()
                target.sendall(chunk)
        with suppress(OSError):
            # An end that speaks no more may still listen.
            target.shutdown(socket.SHUT_WR)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        # Wakes whoever waits in it, which closing does not.
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
