"""Foreign text as people may read it: no terminal obeys it, and nothing in it is hidden or turned.

Characters of control, and those that are invisible or change the order in which others are shown,
become what JSON escapes them to, so that JSON keeps its meaning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BREAKS = "\t\n"
_JOINERS = "\u200c\u200d"
_VARIANTS = "\ufe0e\ufe0f"
# Unicode's categories Cc, Cf, Cs, Zl and Zp, and what else it says not to show (Default_Ignorable).
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b"
    "\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# Emoji and some scripts need these between other characters than ASCII, where nothing reorders.
_ALONE = rf"(?<![^\x00-\x7f{_HIDDEN}{_JOINERS}])[{_JOINERS}{_VARIANTS}](?!\u20e3)"
_IN_TEXT = re.compile(rf"[{_HIDDEN}]|{_ALONE}")
_IN_LINE = re.compile(rf"[{_BREAKS}{_HIDDEN}]|{_ALONE}")
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def visible_text(text: str) -> str:
    """A text of several lines; tabs and line breaks stay."""
    return _IN_TEXT.sub(_escape, text.replace("\r\n", "\n"))


def visible_line(text: str) -> str:
    """A text on one line: a name, a path or a command."""
    return _IN_LINE.sub(_escape, text)


def visible_pieces(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces of a text as they come; what is split between two of them is no other."""
    before = ""
    for piece in pieces:
        # The character before decides whether an emoji goes on.
        yield _IN_TEXT.sub(_escape, before + piece)[len(before) :]
        before = "" if _IN_TEXT.search(piece[-1:]) else piece[-1:]


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return _SHORT.get(character) or "".join(
        f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4)
    )
