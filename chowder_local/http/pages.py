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


# The dashboard's colours and shapes, without its stylesheet: here everything is in the page.
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; --paper: #f7f7f5;
  --sheet: #fff; --ink: #1d1f22; --soft: #5b6068; --line: #e2e3e1; --accent: #a63c25;
  --on-accent: #fff }
@media (prefers-color-scheme: dark) { :root { --paper: #121315; --sheet: #1a1c1f; --ink: #e9eaec;
  --soft: #a0a6ae; --line: #2d3035; --accent: #f0917a; --on-accent: #221009 } }
body { margin: 0; overflow-wrap: anywhere; background: var(--paper); color: var(--ink) }
main { box-sizing: border-box; max-width: 34rem; margin: 8vh auto 0; padding: 1.5rem;
  background: var(--sheet); border: 1px solid var(--line); border-radius: 10px }
h1 { font-size: 1.4rem; line-height: 1.2; margin: 0 0 1rem }
ul { list-style: none; margin: 1.25rem 0 0; padding: 0 }
li { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: center; min-height: 2.75rem;
  justify-content: space-between; padding: .5rem 0; border-top: 1px solid var(--line) }
li > span:last-child { color: var(--soft) }
button { font: inherit; font-weight: 500; min-height: 2.6rem; padding: .3rem 1rem; cursor: pointer;
  border: 0; border-radius: 7px; background: var(--accent); color: var(--on-accent) }
a { color: inherit; text-underline-offset: .2em }
code { font-size: .86em }
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
