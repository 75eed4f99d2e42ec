"""Golden transcripts: a conversation as a text that is the same in a second run (pure)."""

from __future__ import annotations

import json
import re
from difflib import SequenceMatcher, unified_diff
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

INDENT = "  "
HOME = re.compile(r"/home/[\w.-]+/\.openclaw|/root/\.openclaw|/data/\.openclaw")
TEMPORARY = re.compile(r"/(?:tmp|var/folders|private/var/folders)/[^\s\"'`,;:)\]}]+")
TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?(?:[.,]\d+)?"
    r"(?: ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}))?)?"
)
PROCESS = re.compile(r"\bpid \d+\b")
IDENTIFIER = re.compile(
    r"\b(?:[a-z]+_)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    r"|\b(?:resp|msg|call|toolu|fc|run|job|chatcmpl|session)[_-](?=[A-Za-z]*\d)[0-9A-Za-z]{6,}\b"
    r"|\b(?=[0-9a-f]*\d)[0-9a-f]{16,}\b"
)


def render(turns: Sequence[Mapping[str, Any]]) -> str:
    """The turns of a transcript as a text, with ids, times and paths that do not change.

    A turn begins with a line of its role and tool, and its content is indented.
    """
    names: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        # An id that comes again is still told from others.
        return names.setdefault(found[0], f"<id {len(names) + 1}>")

    def normalize(text: str) -> str:
        text = TEMPORARY.sub("<temporary>", HOME.sub("~", text))
        text = PROCESS.sub("pid <number>", text)
        return IDENTIFIER.sub(name, TIME.sub("<time>", text))

    return "".join(f"{_head(each)}\n{_body(normalize(_content(each)))}" for each in turns)


def difference(expected: str, found: str) -> str:
    """What differs between two rendered transcripts, turn by turn."""
    turns = _turns(expected), _turns(found)
    matcher = SequenceMatcher(None, *turns, autojunk=False)
    parts = [
        _changed(turns[0][a:b], turns[1][c:d], a)
        for tag, a, b, c, d in matcher.get_opcodes()
        if tag != "equal"
    ]
    return "\n".join(line for part in parts for line in part)


def _changed(expected: Sequence[str], found: Sequence[str], first: int) -> Iterator[str]:
    for number in range(max(len(expected), len(found))):
        was = expected[number] if number < len(expected) else ""
        now = found[number] if number < len(found) else ""
        kind = "is missing" if not now else "is new" if not was else "differs"
        yield f"turn {first + number + 1} {kind}:"
        lines = unified_diff(was.splitlines(), now.splitlines(), n=1_000, lineterm="")
        # Without the names of files and the place, which a turn does not have.
        yield from list(lines)[3:]


def _head(turn: Mapping[str, Any]) -> str:
    is_error = " (error)" if turn["is_error"] else ""
    return f"{turn['role']}{' ' + turn['name'] if turn['name'] else ''}{is_error}"


def _content(turn: Mapping[str, Any]) -> str:
    parts = [turn["text"] or ""]
    if turn["arguments"] is not None:
        parts.append(json.dumps(turn["arguments"], indent=2, sort_keys=True, ensure_ascii=False))
    if turn["images"]:
        parts.append(f"[images: {turn['images']}]")
    if turn["error"]:
        parts.append(f"[no answer: {turn['error']}]")
    return "\n".join(filter(None, parts))


def _body(text: str) -> str:
    return "".join(f"{INDENT}{line}".rstrip() + "\n" for line in text.splitlines())


def _turns(text: str) -> list[str]:
    """The turns of a rendered transcript; all lines but the first of a turn are indented."""
    turns: list[str] = []
    for line in text.splitlines():
        if line and not line.startswith(INDENT):
            turns.append(line)
        elif turns:
            turns[-1] += f"\n{line}"
    return turns
