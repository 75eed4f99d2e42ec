"""A stand-in for ClawHub: the few calls that OpenClaw's client makes to install a skill."""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.e2e.on_host import Asked, OnHost

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "1.0.0"
DOWNLOADS = "/download/"
SKILLS = "/api/v1/skills/"


class ClawHub(OnHost):
    """Serves skills (slug → text of its SKILL.md) to sandboxes."""

    def __init__(self) -> None:
        super().__init__()
        self.skills: dict[str, str] = {}
        self.requests: list[str] = []
        self._status: int | None = None

    @contextmanager
    def failing(self, status: int) -> Iterator[None]:
        """Answers everything so."""
        self._status = status
        try:
            yield
        finally:
            self._status = None

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        path, body = urlsplit(asked.path).path, asked.body
        self.requests.append(f"{asked.method} {path}")
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
