"""The load generator counts complete answers, and no error responses."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from benchmarks import load
from benchmarks.load import Target
from benchmarks.waiting import NotMeasured

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = b"x" * 300_000


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = 200 if self.headers["Authorization"] == "Bearer key" else 401
        self.server.answered.append(self.path)  # type: ignore[attr-defined]  # set by `serving`
        self.send_response(status)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        pass


@contextmanager
def serving() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answered = []  # type: ignore[attr-defined]  # set by `serving`
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_only_complete_answers_count() -> None:
    with serving() as server:
        target = Target(server.server_port, "/a", {"Authorization": "Bearer key"})
        result = load.run(target, connections=2, seconds=0.2)
    request_count = len(server.answered)  # type: ignore[attr-defined]  # set by `serving`
    # At the end of the window each connection may have a request in progress.
    assert request_count - 2 <= len(result.durations_s) <= request_count
    assert result.per_s == pytest.approx(len(result.durations_s) / result.elapsed_s)


def test_an_error_response_does_not_count() -> None:
    with serving() as server, pytest.raises(NotMeasured, match=r"GET /b: HTTP/1\.1 401"):
        load.run(Target(server.server_port, "/b"), connections=1, seconds=30)
