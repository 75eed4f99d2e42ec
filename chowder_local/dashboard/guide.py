"""The guide at `/guide`: the Markdown files of `docs/`, rendered when a page is first asked for."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

from chowder_local.dashboard.pages import fragment, redirect
from chowder_local.dashboard.rendering import HEADERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markdown_it import MarkdownIt
    from markdown_it.token import Token
    from starlette.requests import Request
    from starlette.responses import Response

INDEX = "index.md"
SUFFIXES = {".md", ".png", ".svg"}
SEARCH_MAX_CHARS = 100
WORD_MAX_CHARS = 40
"""Longer code, such as a URL, may be broken in a table."""
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_FENCE_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Link:
    """A link of the navigation or of a search; `address` is relative to `/guide/`."""

    address: str
    text: str


@dataclass(frozen=True)
class GuidePage:
    title: str
    html: str


async def show(request: Request) -> Response:
    """A page or a picture. Raises HTTPException 404 if the guide has none of this name."""
    if not request.url.path.startswith("/guide/"):
        return redirect(request, "/guide/")
    files = await asyncio.to_thread(guide_files)
    name = request.path_params.get("path") or INDEX
    if (file := files.get(name)) is None:
        # In release 0.1.0 each page had a folder of its own.
        for page in (f"{name.rstrip('/')}.md", f"{name.rstrip('/')}/{INDEX}"):
            if page in files:
                return redirect(request, f"/guide/{page}")
        raise HTTPException(404)
    if file.suffix != ".md":
        return FileResponse(file, headers=HEADERS)
    words = request.query_params.get("q", "")[:SEARCH_MAX_CHARS]
    return fragment(
        request,
        "guide.html",
        here="/guide/",
        organization=None,
        name=name,
        navigation=await asyncio.to_thread(navigation),
        page=await asyncio.to_thread(render_page, file),
        words=words,
        found=await asyncio.to_thread(search, words) if words.strip() else [],
    )


def docs_dir() -> Path:
    """The folder of the guide, in the wheel or in the checkout."""
    packed = Path(__file__).parents[1] / "docs"
    return packed if packed.is_dir() else Path(__file__).parents[2] / "docs"


@cache
def guide_files() -> dict[str, Path]:
    """The files by their names below `docs/`. No other file can be asked for."""
    folder = docs_dir()
    return {
        file.relative_to(folder).as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.suffix in SUFFIXES
    }


def render_page(file: Path) -> GuidePage:
    """The page, anew if its file has changed. Takes half a second for the longest."""
    return _render(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _render(file: Path, _modified_ns: int) -> GuidePage:
    markdown = _markdown()
    tokens = markdown.parse(file.read_text(encoding="utf-8"))
    anchors: dict[str, int] = {}
    title = ""
    for opening, content in _headings(tokens):
        anchor = re.sub(r"[^\w\- ]", "", content.lower()).replace(" ", "-")
        anchors[anchor] = repeated = anchors.get(anchor, -1) + 1
        # Anchors are GitHub's, so that a link leads to the same place here and there.
        opening.attrSet("id", f"{anchor}-{repeated}" if repeated else anchor)
        title = title or content
    html: str = markdown.renderer.render(tokens, markdown.options, {})
    return GuidePage(title, html)


def navigation() -> dict[str, list[Link]]:
    """The links of the index by its headings."""
    file = guide_files()[INDEX]
    return _navigation(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _navigation(file: Path, _modified_ns: int) -> dict[str, list[Link]]:
    tokens = _markdown().parse(file.read_text(encoding="utf-8"))
    places: dict[str, tuple[str, str]] = {}
    heading = ""
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = _text(tokens[index + 1])
        children = token.children or []
        for number, child in enumerate(children):
            address = str(child.attrGet("href") or "")
            if child.type == "link_open" and "://" not in address:
                # The introduction links to some pages, too: the last place of a page counts.
                places.pop(address, None)
                places[address] = heading, children[number + 1].content
    parts: dict[str, list[Link]] = {}
    for address, (part, text) in places.items():
        parts.setdefault(part, []).append(Link(address, text))
    return parts


def search(words: str) -> list[Link]:
    """The pages that have all words, those with one of them in the title first."""
    wanted = words.casefold().split()
    found = []
    for name, file in guide_files().items():
        if file.suffix != ".md":
            continue
        text = file.read_text(encoding="utf-8")
        folded = text.casefold()
        if all(word in folded for word in wanted):
            titled = _TITLE.search(text)
            title = titled[1] if titled else name
            is_titled = any(word in title.casefold() for word in wanted)
            found.append((not is_titled, Link(name, title)))
    return [link for _, link in sorted(found, key=lambda each: each[0])]


def _headings(tokens: Sequence[Token]) -> Iterator[tuple[Token, str]]:
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            yield token, _text(tokens[index + 1])


def _text(token: Token) -> str:
    return "".join(child.content for child in token.children or [])


@cache
def _markdown() -> MarkdownIt:
    # Imported with the first page, as in `rendering`.
    from markdown_it import MarkdownIt

    # A line may be a comment; text such as <name> stays text.
    markdown = MarkdownIt("commonmark", {"html": True}).disable("html_inline")
    markdown.enable(["table", "strikethrough"])
    markdown.add_render_rule("fence", _fence)
    markdown.add_render_rule("code_inline", _code)
    markdown.add_render_rule("table_open", lambda *_: '<div class="sideways"><table>\n')
    markdown.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return markdown


def _code(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    content = tokens[index].content
    is_long = max(map(len, content.split()), default=0) > WORD_MAX_CHARS
    opening = '<code class="long">' if is_long else "<code>"
    return f"{opening}{escape(content)}</code>"


def _fence(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    """A block of code with its title and a button that copies it."""
    token = tokens[index]
    titled = _FENCE_TITLE.search(token.info)
    title = f"<p class='second muted'>{escape(titled[1])}</p>" if titled else ""
    return (
        f'{title}<div class="copyable"><pre id="code-{index}" tabindex="0"><code>'
        f'{escape(token.content)}</code></pre><button type="button" class="quiet" '
        f'data-copies="code-{index}">Copy</button></div>\n'
    )
