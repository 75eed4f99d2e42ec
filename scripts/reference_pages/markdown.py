"""The parts of a Markdown page (pure)."""

from __future__ import annotations

import html
import inspect
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"`[^`]+`|[|<>*]")
_ESCAPED = {"|": r"\|", "*": r"\*", "<": "&lt;", ">": "&gt;"}


def page(title: str, *parts: str) -> str:
    """A whole page; empty parts are left out."""
    return "\n\n".join([f"# {title}", *filter(None, parts)]) + "\n"


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def inline(text: str) -> str:
    """Text for a line or table cell, escaped except for code in backticks."""
    return _SPECIAL.sub(_escape, " ".join(text.split()))


def code(text: object) -> str:
    """Code in a line or table cell, in which pipes are escaped."""
    content = str(text)
    if "|" in content or "`" in content:
        return f"<code>{html.escape(content, quote=False).replace('|', '&#124;')}</code>"
    return f"`{content}`"


def codes(values: Iterable[object], separator: str = ", ") -> str:
    """Several codes, with a separator."""
    return separator.join(map(code, values))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown cells, without empty columns; empty if it has no rows."""
    cells = list(rows)
    used = [n for n in range(len(headers)) if any(row[n] for row in cells)]
    if not used:
        return ""
    lines = [[headers[n] for n in used], ["---"] * len(used)]
    lines += [[row[n] for n in used] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fence(language: str, content: str) -> str:
    """A block of code."""
    return f"```{language}\n{content.rstrip()}\n```"


def prose(text: str | None) -> str:
    r"""The paragraphs of a docstring or help text; one that begins with `\b` keeps its lines."""
    return "\n\n".join(map(_paragraph, paragraphs(text)))


def paragraphs(text: str | None) -> list[str]:
    """The paragraphs as they are."""
    return re.split(r"\n\s*\n", inspect.cleandoc(text)) if text and text.strip() else []


def _paragraph(text: str) -> str:
    if text.startswith("\b"):
        return fence("text", inspect.cleandoc(text.removeprefix("\b")))
    if text.startswith("- "):
        return "\n".join(f"- {inline(each)}" for each in re.split(r"(?:^|\n)- ", text)[1:])
    return inline(text)


def _escape(match: re.Match[str]) -> str:
    text = match[0]
    return code(text[1:-1]) if text.startswith("`") else _ESCAPED[text]
