"""A small HTTP server on this machine that sandboxes reach, for stand-ins of other services."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from chowder_local.core.domain import HOST_HOSTNAME
from tests.e2e.serving import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    content_type: str
    body: bytes


class OnHost:
    """Serves what `answer` says, from threads of its own, on a port that stays the same."""

    def __init__(self) -> None:
        self._port = free_port()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where a sandbox with egress finds it."""
        return f"http://{HOST_HOSTNAME}:{self._port}"

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Nobody listens on the port: a connection is refused."""
        self._leave()
        try:
            yield
        finally:
            self._listen()

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        """Status and content for a request."""
        raise NotImplementedError

    def closing(self) -> None:
        """Lets go of requests that wait for something to happen."""

    def _listen(self) -> None:
        # All addresses: a sandbox comes in by the bridge, or by loopback where there is none.
        self._server = ThreadingHTTPServer(("0.0.0.0", self._port), _handler(self))
        name = type(self).__name__
        self._thread = threading.Thread(target=self._server.serve_forever, name=name)
        self._thread.start()

    def _leave(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        self.closing()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(service: OnHost) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content_type = self.headers.get("Content-Type", "")
            status, content = service.answer(Asked(self.command, self.path, content_type, body))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            # A connection that is kept would outlive `gone`.
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Handler
