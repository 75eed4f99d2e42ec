"""Templates, with everything escaped and nothing left out, and the headers of every page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chowder_local.sizes import size_of

if TYPE_CHECKING:
    from jinja2 import Environment

    from chowder_local.web.dashboard.assets import Assets

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
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
        }
        templates.filters |= {"size": size_of, "iso": iso, "ago": ago}
        return templates

    def html(self, template: str, **context: Any) -> str:
        """A template, filled; an undefined name in it is an error."""
        return self._templates.get_template(template).render(context)


def iso(moment: datetime) -> str:
    """A moment for a `<time>`, which says it in words."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago that was; the page's own script goes on counting."""
    seconds = max(0, int(((now or datetime.now(UTC)) - moment).total_seconds()))
    unit_s, unit = next((each, word) for end, each, word in STEPS if end is None or seconds < end)
    return f"{seconds // unit_s} {unit}"
