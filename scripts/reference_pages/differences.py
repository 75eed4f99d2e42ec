"""The page of differences from the hosted API, from their data file."""

from __future__ import annotations

from chowder_local.api.openapi.differences import sections
from scripts.reference_pages.markdown import page as make_page
from scripts.reference_pages.markdown import table

LEAD = """\
chowder-local answers the same `/v1` calls as the hosted service, with the same status codes,
field names and types. A client written for one works with the other after a change of the base
URL and the key. This page lists everything else that a client can notice. `/openapi.json` has
the same entries, as `x-chowder-differences` of each call.

The column *hosted* says what the hosted service's public documentation says (as of 2026-11-27).
*Not documented* means that it says nothing. The [conformance suite](../guides/conformance.md) runs
against both, and its report names these entries by their *id*."""
MORE = """\
## See also

- [Conformance](../guides/conformance.md)
- [HTTP API reference](http-api.md)
- [Errors](errors.md)
- [Messages](../guides/messages.md)"""
HEADERS = ("topic", "hosted", "here", "why", "since", "id")


def page() -> str:
    """The whole page."""
    parts = [LEAD]
    for each in sections():
        rows = [[getattr(difference, name) for name in HEADERS] for difference in each.differences]
        parts += [f"## {each.section}", table(HEADERS, rows)]
    return make_page("Differences from the hosted API", *parts, MORE)
