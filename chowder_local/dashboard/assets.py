"""Static files; their addresses contain hashes, so that browsers may cache them."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.responses import Response

MEDIA_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
PATH = "/assets/{name}"
HASH_DIGITS = 12


class Assets:
    """The files of `static/`, read once: a few hundred kilobytes."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self._contents: dict[str, tuple[str, bytes]] = {}
        for file in files(__package__).joinpath("static").iterdir():
            stem, dot, end = file.name.rpartition(".")
            if (media_type := MEDIA_TYPES.get(dot + end)) is None:
                continue
            content = file.read_bytes()
            hashed = f"{stem}.{hashlib.sha256(content).hexdigest()[:HASH_DIGITS]}{dot}{end}"
            self._addresses[file.name] = f"/assets/{hashed}"
            self._contents[hashed] = media_type, content

    def address(self, name: str) -> str:
        return self._addresses[name]

    def serve(self, hashed: str) -> Response:
        """The file of this name and hash. Raises HTTPException 404 if there is none."""
        if (file := self._contents.get(hashed)) is None:
            raise HTTPException(404)
        media_type, content = file
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        return Response(content, media_type=media_type, headers=headers)
