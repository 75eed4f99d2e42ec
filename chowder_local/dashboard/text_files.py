"""Files as an editor has them: what is text, how its lines end, and which version it is."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from chowder_local.core.errors.agents import FileMissing

if TYPE_CHECKING:
    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.files import Files

MAX_BYTES = 1024 * 1024
"""What is longer is no pleasure in a browser's field."""


@dataclass(frozen=True)
class Missing:
    """There is no such file."""

    digest = ""


@dataclass(frozen=True)
class Text:
    """A file that is there; without content it cannot be edited, for being long or no text."""

    size: int
    digest: str
    content: str | None = None
    line_end: str = "lf"
    is_mixed: bool = False
    """Whether its lines end in several ways, of which a browser's field keeps none."""

    @property
    def is_too_long(self) -> bool:
        """Whether that is why it cannot be edited."""
        return self.size > MAX_BYTES

    @classmethod
    def of(cls, data: bytes) -> Self:
        """A file of that content."""
        digest = hashlib.sha256(data).hexdigest()
        try:
            content = data.decode()
        except UnicodeDecodeError:
            return cls(len(data), digest)
        # No page can hold that character.
        if "\0" in content:
            return cls(len(data), digest)
        pairs = content.count("\r\n")
        is_mixed = content.count("\r") > pairs or 0 < pairs < content.count("\n")
        line_end = "crlf" if pairs and not is_mixed else "lf"
        return cls(len(data), digest, content, line_end, is_mixed)


async def read(files: Files, sandbox_id: SandboxId, path: str) -> Text | Missing:
    """The file as it is now. Raises what `Files.download` does, but FileMissing."""
    try:
        found = await files.download(sandbox_id, path)
    except FileMissing:
        return Missing()
    async with aclosing(found.chunks) as chunks:
        if found.size > MAX_BYTES:
            return Text(found.size, "too long")
        return Text.of(b"".join([chunk async for chunk in chunks]))


def lines_ended(content: str, line_end: str) -> str:
    """A text as a form sends it, with each of its lines ended in one way."""
    unified = content.replace("\r\n", "\n").replace("\r", "\n")
    return unified.replace("\n", "\r\n") if line_end == "crlf" else unified
