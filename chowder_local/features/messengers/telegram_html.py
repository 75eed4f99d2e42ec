"""Telegram's HTML, read as strictly as Telegram does (pure).

https://core.telegram.org/bots/api#html-style. The parser of the standard library takes most of what
Telegram refuses, so that a plugin's fall-back to plain text would never be tried.
"""

from __future__ import annotations

import html
import re

TAGS = {
    "a",
    "b",
    "strong",
    "i",
    "em",
    "u",
    "ins",
    "s",
    "strike",
    "del",
    "code",
    "pre",
    "blockquote",
}
TAGS |= {"span", "tg-spoiler", "tg-emoji", "tg-time"}
Style = tuple[int, int, str, str]
"""From where to where a text has a tag, and the tag's attributes."""

_TAG = re.compile(r"<(/?)([^\s>]*)")
_ATTRIBUTES = re.compile(r"""((?:[^>"']|"[^"]*"|'[^']*')*)>""")
_ENTITY = re.compile(r"&(?:(?:lt|gt|amp|quot)(?![a-zA-Z])|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});?")


def parse(source: str) -> tuple[str, list[Style]]:
    """The text that people read, and its styles. Raises ValueError with Telegram's words."""
    text, styles = "", list[Style]()
    unclosed: list[tuple[int, str, str]] = []
    end = 0
    while tag := _TAG.search(source, end):
        text += _unescape(source[end : tag.start()])
        is_end, name = bool(tag[1]), tag[2].lower()
        if is_end and not unclosed:
            raise ValueError(f"Unexpected end tag {_place(tag)}")
        if not is_end and name not in TAGS:
            raise ValueError(f'Unsupported start tag "{name}" {_place(tag)}')
        if (attributes := _ATTRIBUTES.match(source, tag.end())) is None:
            raise ValueError(f"Unclosed {'end' if is_end else 'start'} tag {_place(tag)}")
        end = attributes.end()
        if not is_end:
            unclosed.append((len(text), name, attributes[1].strip()))
            continue
        begin, expected, details = unclosed.pop()
        if name not in {"", expected}:
            found = f'expected "</{expected}>", found "</{name}>"'
            raise ValueError(f"Unmatched end tag {_place(tag)}, {found}")
        styles.append((begin, len(text), expected, details))
    if unclosed:
        raise ValueError(f'Can\'t find end tag corresponding to start tag "{unclosed[-1][1]}"')
    return text + _unescape(source[end:]), styles


def _unescape(text: str) -> str:
    # Telegram knows four names only, and shows all others as they are.
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)


def _place(tag: re.Match[str]) -> str:
    return f"at byte offset {len(tag.string[: tag.start()].encode())}"
