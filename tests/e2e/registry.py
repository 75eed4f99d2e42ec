"""A registry of images, with as much of its protocol as an engine needs to push and to pull.

The protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

UPLOADS = "/blobs/uploads/"


class Registry:
    """Serves what was pushed to it, from a thread of its own; `pulls` has who pulled which blob."""

    def __init__(self, address: str) -> None:
        self.contents: dict[str, tuple[str, bytes]] = {}
        self.pulls: list[tuple[str, str]] = []
        handler = type("Handler", (_Handler,), {"registry": self})
        self._server = ThreadingHTTPServer((address, 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="registry")

    @property
    def name(self) -> str:
        """Its host and port, with which names of its images begin."""
        return f"{self._server.server_address[0]!s}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    registry: Registry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        reference = self.path.rsplit("/", 1)[-1]
        if self.path.rstrip("/") == "/v2":
            self._answer(200)
        elif reference not in self.registry.contents:
            self._answer(404)
        else:
            kind, content = self.registry.contents[reference]
            if "/blobs/" in self.path and self.command == "GET":
                self.registry.pulls.append((self.client_address[0], reference))
            self._answer(200, content, kind=kind, digest=_digest(content))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self._answer(202, location=f"{self.path.split('?', 1)[0]}one")

    def do_PATCH(self) -> None:
        content = self._body()
        # An upload's address tells its content, so the registry keeps no list of uploads.
        self.registry.contents[_digest(content)] = "application/octet-stream", content
        self._answer(202, location=self.path, length=len(content))

    def do_PUT(self) -> None:
        content = self._body()
        if UPLOADS in self.path:
            digest = parse_qs(urlsplit(self.path).query)["digest"][0]
            if content:
                self.registry.contents[digest] = "application/octet-stream", content
        else:
            digest = _digest(content)
            kind = self.headers["Content-Type"]
            for reference in (digest, self.path.rsplit("/", 1)[-1]):
                self.registry.contents[reference] = kind, content
        self._answer(201, digest=digest)

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(
        self,
        status: int,
        content: bytes = b"",
        *,
        kind: str = "",
        digest: str = "",
        location: str = "",
        length: int = 0,
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Docker-Content-Digest": digest,
            "Location": location,
            "Range": f"0-{length - 1}" if length else "",
            "Content-Length": str(len(content)),
        }
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
