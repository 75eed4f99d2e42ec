"""An agent's answers as HTML: Markdown in which only links to other sites are active."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

RENDERED_MAX = 20_000
"""Longer texts stay plain: rendering takes up to a second per 50,000 characters."""
HEADING_OFFSET = 2
"""The page and the conversation have the levels above those of an answer."""

_LINK_TARGET = re.compile(r"(https?://|mailto:)", re.IGNORECASE)


def render_markdown(text: str) -> str | None:
    """Safe HTML; None if the text is longer than RENDERED_MAX."""
    if len(text) > RENDERED_MAX:
        return None
    markdown = _markdown()
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1:]) + HEADING_OFFSET, 6)}"
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("rel", "noopener noreferrer")
                child.attrSet("target", "_blank")
    html: str = markdown.renderer.render(tokens, markdown.options, {})
    return html


@cache
def _markdown() -> MarkdownIt:
    # Imported with the first text, because most servers never show one.
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True})
    # A picture would reveal the reader to another server; without the rule it is a link.
    markdown.enable(["table", "strikethrough"]).disable("image")
    markdown.validateLink = lambda url: _LINK_TARGET.match(url) is not None  # type: ignore[method-assign]  # the documented way
    return markdown
