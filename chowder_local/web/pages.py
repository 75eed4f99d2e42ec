"""Pages for people: whole HTML without scripts, of which nothing is kept or passed on."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from starlette.responses import HTMLResponse, RedirectResponse, Response


def page(title: str, content: str, status: int = 200) -> HTMLResponse:
    """A page; `title` is text, `content` is HTML whose parts are escaped already."""
    html = _PAGE.format(title=escape(title), style=_STYLE, content=content)
    return HTMLResponse(html, status, _headers())


def see_other(url: str) -> Response:
    """The answer to a form: the page that says what has come of it."""
    return RedirectResponse(url, 303, _headers())


def _headers() -> dict[str, str]:
    style = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{style}'; img-src data:; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        ),
        # The address may be all that it takes to use the page.
        # Not `no-referrer`, which has browsers say of our own forms that they come from nowhere.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }


_STYLE = """
:root { color-scheme: light dark; font: 1.0625rem/1.5 system-ui, sans-serif }
body { margin: 0; overflow-wrap: anywhere }
main { box-sizing: border-box; max-width: 36rem; margin: 0 auto; padding: 2rem 1.25rem }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem }
ul { list-style: none; margin: 1.5rem 0; padding: 0 }
li { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: center; min-height: 2.75rem;
     justify-content: space-between; padding: .5rem 0; border-top: 1px solid GrayText }
button { font: inherit; min-height: 2.75rem; padding: .5rem 1.25rem; cursor: pointer }
code { font-size: .9375em }
"""

# An empty icon, or browsers ask for one that is not there.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{content}
</main>
</body>
</html>
"""
