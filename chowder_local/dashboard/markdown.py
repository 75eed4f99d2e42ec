"""What an agent says, as HTML: Markdown in which nothing is active but links to other pages."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

RENDERED_MAX = 20_000
"""Longer texts are shown as they are: rendering takes up to a second per 50,000 characters."""
LEVELS_DOWN = 2
"""The page and the conversation have headings of their own, above those of an answer."""

_LINKED = re.compile(r"(https?://|mailto:)", re.IGNORECASE)


def rendered(text: str) -> str | None:
    """HTML to be put in a page as it is; None if the text is too long for that."""
    if len(text) > RENDERED_MAX:
        return None
    markdown = _markdown()
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1:]) + LEVELS_DOWN, 6)}"
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("rel", "noopener noreferrer")
                child.attrSet("target", "_blank")
    html: str = markdown.renderer.render(tokens, markdown.options, {})
    return html


@cache
def _markdown() -> MarkdownIt:
    # With the first text: most servers never show one.
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True})
    # A picture would tell another server who looks; without the rule it is a link.
    markdown.enable(["table", "strikethrough"]).disable("image")
    markdown.validateLink = lambda url: _LINKED.match(url) is not None  # type: ignore[method-assign]  # the documented way
    return markdown
