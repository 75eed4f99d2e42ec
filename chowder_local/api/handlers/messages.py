"""Handlers: what agents say without being asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from chowder_local.api.schemas.messages import (
    EntriesQuery,
    MessagesQuery,
    SentMessagesView,
    SentMessageView,
)
from chowder_local.http.bodies import parse_query
from chowder_local.http.responses import CLIENT_CLOSED_REQUEST, json_in_thread, while_connected
from chowder_local.http.services import instance_of, require_living, services
from chowder_local.openclaw.session_keys import session_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.store.agent_entries import AgentEntries, Entry, EntryPage


async def list_messages(request: Request) -> Response:
    """What the agent said without being asked: reports of sub-agents, answers to jobs, and more.

    An answer that says that there is nothing to say (NO_REPLY, HEARTBEAT_OK) is no message.
    """
    query = parse_query(request, MessagesQuery)
    instance = require_living(await instance_of(request))
    names = services(request).session_names
    keys = {query.session, session_key(query.session)}

    def matches(entry: Entry) -> bool:
        return query.session is None or entry.content["session_key"] in keys

    page = await page_of(request, services(request).messages, instance, query, matches)
    if page is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    def view(entry: Entry) -> SentMessageView:
        key = entry.content["session_key"]
        session = None if key is None else names.find(instance.id, key)
        return SentMessageView(
            **entry.content,
            number=entry.number,
            at=entry.at,
            session=session.name if session else None,
        )

    return await json_in_thread(
        lambda: SentMessagesView(
            messages=[view(each) for each in page.entries],
            after=page.last,
            is_incomplete=page.is_incomplete,
        )
    )


async def page_of(
    request: Request,
    entries: AgentEntries,
    instance: Instance,
    query: EntriesQuery,
    matches: Callable[[Entry], bool] = lambda _: True,
) -> EntryPage | None:
    """The entries that a query asks for; None if the client has left."""
    return await while_connected(
        request,
        lambda: entries.read(
            instance.id, query.after, wait_s=query.wait_s, limit=query.limit, matches=matches
        ),
    )
