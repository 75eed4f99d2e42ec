"""Templates, with everything escaped and nothing left out, and the headers of every page."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, date, datetime
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from chowder_local.core.formatting import size_of

if TYPE_CHECKING:
    from jinja2 import Environment

    from chowder_local.dashboard.assets import Assets


RELOADING = (
    'addEventListener("error", ({ target }) => { if (target.matches?.("script, link") && '
    'performance.getEntriesByType("navigation")[0].type !== "reload") location.reload(); }, true)'
)
"""The one script in a page itself: without one of its files the page is loaded again, once.

Chromium breaks off what it is connecting to if the engine makes a network interface meanwhile.
"""
RELOADING_HASH = "sha256-" + b64encode(sha256(RELOADING.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self' '{RELOADING_HASH}'; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    # Not `no-referrer`, which has browsers say of our own forms that they come from nowhere.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

HTMX = {
    "allowEval": False,
    "allowScriptTags": False,
    # What is put in place works from that moment on, not twenty milliseconds later.
    "defaultSettleDelay": 0,
    "historyCacheSize": 0,
    "refreshOnHistoryMiss": True,
    # Its own style would be an inline one, which no page here may have.
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
"""What htmx is told by a meta tag: no code from pages, and failures go where they are seen."""

STEPS = ((60, 1, "s"), (3600, 60, "min"), (2 * 86400, 3600, "h"), (None, 86400, "d"))


class Rendering:
    """Makes HTML of templates. Only templates say what is HTML: all values are text."""

    def __init__(self, assets: Assets) -> None:
        self._assets = assets

    @cached_property
    def _templates(self) -> Environment:
        # With the first page: to import it takes as long as the store.
        from jinja2 import Environment, PackageLoader, StrictUndefined

        templates = Environment(
            loader=PackageLoader(__package__),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.globals |= {
            "asset": self._assets.address,
            "htmx_config": json.dumps(HTMX),
            "reloading": RELOADING,
        }
        templates.filters |= {"size": size_of, "iso": iso, "ago": ago, "day": day}
        templates.filters |= {"ordinal": ordinal, "number": number, "money": money}
        return templates

    def html(self, template: str, **context: Any) -> str:
        """A template, filled; an undefined name in it is an error."""
        return self._templates.get_template(template).render(context)


def iso(moment: datetime) -> str:
    """A moment for a `<time>`, which says it in words."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def day(moment: date) -> str:
    """A day, as people write it, of a moment in UTC."""
    if isinstance(moment, datetime):
        moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%b %Y}"


def number(value: float) -> str:
    """A count, with its thousands apart."""
    return f"{value:,.0f}"


def money(usd: float) -> str:
    """Dollars, and of small sums what is needed to see them."""
    if usd == 0 or usd >= 1:
        return f"${usd:,.2f}"
    return f"${usd:.4f}" if usd >= 0.0001 else "under $0.0001"


def ordinal(number: int) -> str:
    """Which one it is: 1st, 2nd, 3rd, 4th."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in {11, 12, 13} else ends.get(number % 10, 'th')}"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago that was; the page's own script goes on counting."""
    seconds = max(0, int(((now or datetime.now(UTC)) - moment).total_seconds()))
    unit_s, unit = next((each, word) for end, each, word in STEPS if end is None or seconds < end)
    return f"{seconds // unit_s} {unit}"
