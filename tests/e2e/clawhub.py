"""A stand-in for ClawHub: the few calls that OpenClaw's client makes to install a skill."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from chowder_local.domain import RELAY_HOSTNAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

VERSION = "1.0.0"
DOWNLOADS = "/download/"
SKILLS = "/api/v1/skills/"


class ClawHub:
    """Serves skills (slug → text of its SKILL.md) to sandboxes, from a thread of its own."""

    def __init__(self) -> None:
        self.skills: dict[str, str] = {}
        self.requests: list[str] = []
        self._status: int | None = None
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where a sandbox finds it."""
        return f"http://{RELAY_HOSTNAME}:{self._port}"

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._leave()

    @contextmanager
    def failing(self, status: int) -> Iterator[None]:
        """Answers everything so."""
        self._status = status
        try:
            yield
        finally:
            self._status = None

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Nobody listens on the port: a connection is refused."""
        self._leave()
        try:
            yield
        finally:
            self._listen()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and content for a request."""
        self.requests.append(f"{method} {path}")
        if self._status is not None:
            return self._status, b'{"message": "not today"}'
        if path == f"{SKILLS}-/security-verdicts":
            return _json({"items": [_verdict(each) for each in json.loads(body)["items"]]})
        if path.startswith(DOWNLOADS):
            return 200, _archive(self.skills[path.removeprefix(DOWNLOADS)])
        slug, _, call = path.removeprefix(SKILLS).partition("/")
        if slug not in self.skills:
            return 404, b'{"message": "Skill not found"}'
        if call == "install":
            archive = {"version": VERSION, "downloadUrl": f"{DOWNLOADS}{slug}"}
            return _json({"ok": True, "slug": slug, "installKind": "archive", "archive": archive})
        if call:
            return 404, b'{"message": "Not found"}'
        return _json({"skill": {"slug": slug}, "latestVersion": {"version": VERSION}})

    def _listen(self) -> None:
        handler = type("_Handler", (_Handler,), {"hub": self})
        # Sandboxes reach it where they reach the relay: not on the loopback.
        self._server = ThreadingHTTPServer(("0.0.0.0", self._port), handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="clawhub")
        self._thread.start()

    def _leave(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: ClawHub

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _answer(self, body: bytes) -> None:
        status, content = self.hub.answer(self.command, urlsplit(self.path).path, body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _json(content: dict[str, Any]) -> tuple[int, bytes]:
    return 200, json.dumps(content).encode()


def _archive(skill: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("SKILL.md", skill)
    return buffer.getvalue()


def _verdict(asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "ok": True,
        "decision": "pass",
        "reasons": [],
        "requestedSlug": asked["slug"],
        "requestedVersion": asked["version"],
        "slug": asked["slug"],
        "version": asked["version"],
        "publisherHandle": asked.get("ownerHandle", "somebody"),
        "overview": "Nothing to see.",
        "securityAuditUrl": "https://clawhub.example/audit",
        "security": {"status": "clean", "passed": True},
    }
