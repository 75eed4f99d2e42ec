"""The page of events, from the catalogue."""

from __future__ import annotations

from chowder_local.core.events import CAPACITY, QUIET_S, EventType
from scripts.reference_pages.event_catalogue import CATALOGUE
from scripts.reference_pages.markdown import code, inline, table
from scripts.reference_pages.markdown import page as make_page

LEAD = f"""\
`GET /local/events` streams what the server decides as server-sent events. It needs an
organization key, and sends the events of the organization's instances, and those that concern
no instance. `GET /local/instances/{{instance_id}}/events` streams those of one instance.

The `data` of each event is a JSON object with `type`, `at` (a time in UTC) and, for an event
of an instance, `instance_id`. The table lists the other members.

The server keeps the latest {CAPACITY:,} events. A client that reconnects with `Last-Event-ID`
gets the events after that one. Without an event for {QUIET_S:g} seconds the server sends a
comment. It disconnects a client that reads so slowly that it would miss events."""


def page() -> str:
    """The whole page."""
    rows = [
        (
            code(each),
            inline(CATALOGUE[each].when),
            "<br>".join(
                f"{code(name)}: {inline(meaning)}"
                for name, meaning in CATALOGUE[each].members.items()
            ),
        )
        for each in EventType
    ]
    return make_page("Events", LEAD, table(("Event", "When", "Members"), rows))
