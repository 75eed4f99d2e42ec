"""Markdown of agents as HTML without active content."""

from __future__ import annotations

import re

from chowder_local.dashboard.rendering import RENDERED_MAX_CHARS, render_markdown


def tags(html: str | None) -> set[str]:
    return set(re.findall(r"<([a-z0-9]+)", html or ""))


def test_common_markdown_is_rendered() -> None:
    html = render_markdown(
        "# A\n\n**b** `c` ~~d~~\n\n1. e\n\n> f\n\n```sh\ng <h>\n```\n\n|i|\n|---|\n|j|"
    )
    assert tags(html) == {
        "h3", "p", "strong", "code", "s", "ol", "li", "blockquote", "pre",
        "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert html is not None
    assert "g &lt;h&gt;" in html


def test_links_open_new_pages_without_a_referrer() -> None:
    html = render_markdown("[a](https://a.example/?x=1&y=2) <mailto:b@b.example>")
    assert html is not None
    assert html.count('rel="noopener noreferrer" target="_blank"') == 2


ACTIVE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<div hx-get='/sign-out' hx-trigger='load' id=notice hx-swap-oob=true></div>",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](\x01javascript:alert(1))",
    "[a](java&#115;cript:alert(1))",
    "<javascript:alert(1)>",
    "[a](data:text/html,<script>alert(1)</script>)",
    "[a](/sign-out)",
    "[a][b]\n\n[b]: vbscript:x",
    "![a](javascript:alert(1))",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
]


def test_active_content_is_escaped() -> None:
    rendered = {text: tags(render_markdown(text)) for text in ACTIVE}
    assert not {text: found for text, found in rendered.items() if found != {"p"}}


def test_attribute_values_are_escaped() -> None:
    html = render_markdown(
        '[a](https://x/"onmouseover="alert(1) "t\\" onclick=\\"alert(1)")\n\n```"><b>\n```'
    )
    assert html is not None
    assert not re.search(r'<[^>]*" on|<b>', html)


def test_images_become_links() -> None:
    assert tags(render_markdown("![seen](https://elsewhere.example/seen.png)")) == {"p", "a"}


def test_a_long_text_is_not_rendered() -> None:
    assert render_markdown("x" * (RENDERED_MAX_CHARS + 1)) is None
