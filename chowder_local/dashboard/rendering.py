"""Rendering of templates and Markdown, static files, and the headers of every page."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache, cached_property
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from chowder_local.core.domain import ModelProvider, Permission, Tier
from chowder_local.core.visible_text import visible_text
from chowder_local.core.wording import size_of
from chowder_local.http.responses import EVENT_STREAM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment
    from markdown_it import MarkdownIt
    from markupsafe import Markup

MEDIA_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
ASSETS_PATH = "/assets/{name}"
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


RELOADING = (
    'addEventListener("error", ({ target }) => { if (target.matches?.("script, link") && '
    'performance.getEntriesByType("navigation")[0].type !== "reload") location.reload(); }, true)'
)
"""The only inline script: it reloads a page once if one of its files fails to load.

Chromium aborts its connections when the engine creates a network interface.
"""
RELOADING_HASH = "sha256-" + b64encode(sha256(RELOADING.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self' '{RELOADING_HASH}'; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    # Not `no-referrer`: browsers would send our own forms with `Origin: null`.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
STREAM_MEDIA_TYPE = "text/event-stream"
STREAM_HEADERS = HEADERS | EVENT_STREAM

HTMX = {
    "allowEval": False,
    "allowScriptTags": False,
    # Swapped-in elements work at once, not after 20 ms.
    "defaultSettleDelay": 0,
    "historyCacheSize": 0,
    "refreshOnHistoryMiss": True,
    # These styles are inline, which the policy forbids.
    "includeIndicatorStyles": False,
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        {
            "code": "[45]..",
            "swap": True,
            "error": True,
            "target": "#notice",
            "select": ".notice",
            "swapOverride": "innerHTML",
        },
    ],
}
"""htmx's configuration, in a meta tag: it runs no code of pages, and errors go to `#notice`."""

RENDERED_MAX_CHARS = 20_000
"""Longer texts stay plain: rendering takes up to a second per 50,000 characters."""
HEADING_OFFSET = 2
"""Headings of an answer begin below those of the page and of the conversation."""

_LINK_TARGET = re.compile(r"(https?://|mailto:)", re.IGNORECASE)

STEPS = ((60, 1, "s"), (3600, 60, "min"), (2 * 86400, 3600, "h"), (None, 86400, "d"))


@dataclass(eq=False, repr=False)
class Rendering:
    """Renders templates, which escape every value that they do not mark as safe."""

    assets: Assets
    packages: Sequence[str] = ()
    """Of features, which have templates of their own."""

    @cached_property
    def _templates(self) -> Environment:
        # Imported with the first page: the import takes as long as opening the store.
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

        templates = Environment(
            loader=ChoiceLoader([PackageLoader(each) for each in (__package__, *self.packages)]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.globals |= {
            "asset": self.assets.address,
            "htmx_config": json.dumps(HTMX),
            "reloading": RELOADING,
            "ModelProvider": ModelProvider,
            "Permission": Permission,
            "Tier": Tier,
        }
        templates.filters |= {
            "size": size_of,
            "iso": iso,
            "ago": ago,
            "day": day,
            "visible": visible_text,
        }
        templates.filters |= {"ordinal": ordinal, "number": number, "money": money}
        return templates

    def html(self, template: str, **context: Any) -> str:
        """A rendered template. Raises UndefinedError if a name has no value."""
        return self._templates.get_template(template).render(context)

    def macro(self, template: str, name: str, *args: Any, **options: Any) -> Markup:
        """A rendered macro of a template; the template must need no context itself."""
        html: Markup = getattr(self._templates.get_template(template).module, name)(
            *args, **options
        )
        return html


def iso(moment: datetime) -> str:
    """A time in UTC, for a `<time>` element."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def day(moment: date) -> str:
    """A date, or a time's date in UTC, such as 5 May 2026."""
    if isinstance(moment, datetime):
        moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%b %Y}"


def number(value: float) -> str:
    """A count with thousands separators."""
    return f"{value:,.0f}"


def money(usd: float) -> str:
    """Dollars, with more digits for small sums."""
    if usd == 0 or usd >= 1:
        return f"${usd:,.2f}"
    return f"${usd:.4f}" if usd >= 0.0001 else "under $0.0001"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in {11, 12, 13} else ends.get(number % 10, 'th')}"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """The time since a moment, such as 5 min; the page's script keeps it current."""
    seconds = max(0, int(((now or datetime.now(UTC)) - moment).total_seconds()))
    unit_s, unit = next((each, word) for end, each, word in STEPS if end is None or seconds < end)
    return f"{seconds // unit_s} {unit}"


def render_markdown(text: str) -> str | None:
    """Safe HTML; None if the text is longer than RENDERED_MAX_CHARS."""
    if len(text) > RENDERED_MAX_CHARS:
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
    # Imported with the first text: most servers never render one.
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True})
    # An image would reveal the reader to another server; without this rule it becomes a link.
    markdown.enable(["table", "strikethrough"]).disable("image")
    markdown.validateLink = lambda url: _LINK_TARGET.match(url) is not None  # type: ignore[method-assign]  # the documented way
    return markdown
