"""A scripted server, and a data directory whose run file names it."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Serve = Callable[[dict[str, Any]], tuple[dict[str, str], list[Any]]]
"""What the fixture `serve` is."""
Output = pytest.CaptureFixture[str]


class Scripted(ThreadingHTTPServer):
    """Answers `METHOD /path` from a table of bytes, values, or (status, value, header, …)."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.table = table
        self.requests: list[tuple[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        call = f"{self.command} {self.path}"
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._read_chunk, b""))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_form = "form" in self.headers.get("Content-Type", "")
        self.server.requests.append((call, body if is_form else json.loads(body) if body else None))
        answer = self.server.table.get(call, (404, {"detail": f"{call} is not in the script."}))
        status, value, *headers = answer if isinstance(answer, tuple) else (200, answer)
        self.send_response(status)
        for each in headers:
            self.send_header(*each.split(": "))
        self.end_headers()
        self.wfile.write(value if isinstance(value, bytes) else json.dumps(value).encode())

    def _read_chunk(self) -> bytes:
        chunk = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return chunk

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the library reads these names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a server; returns the environment that names it, and a list of its requests."""
    with ExitStack() as stack:

        def start(table: dict[str, Any]) -> tuple[dict[str, str], list[Any]]:
            server = stack.enter_context(Scripted(table))
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            thread.start()
            url = f"http://127.0.0.1:{server.server_port}"
            facts = {"pid": os.getpid(), "base_url": url, "version": "0.0.1"}
            (tmp_path / "server.json").write_text(json.dumps(facts))
            (tmp_path / "default.key").write_text("chd_org_k")
            (tmp_path / "default.key").chmod(0o600)
            return {"CHOWDER_DATA_DIR": str(tmp_path), "PATH": "/nowhere"}, server.requests

        yield start
