"""Handlers: what agents say without being asked, and the webhooks that reach and leave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from chowder_local.api.schemas.messages import (
    EntriesQuery,
    HookView,
    InboxView,
    MessagesQuery,
    SentMessagesView,
    SentMessageView,
    WebhookView,
)
from chowder_local.core.errors.agents import HookRefused
from chowder_local.http.bodies import json_of, parse_query, read_body
from chowder_local.http.responses import CLIENT_CLOSED_REQUEST, json_in_thread, while_connected
from chowder_local.http.services import instance, instance_of, require_living, services
from chowder_local.instances.schedule.hooks import MAX_BODY_BYTES
from chowder_local.openclaw.session_keys import session_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.store.agent_entries import AgentEntries, Entry, EntryPage


_NOT_PASSED_ON = {
    "authorization", "connection", "content-encoding", "content-length", "cookie", "expect",
    "forwarded", "host", "keep-alive", "origin", "te", "trailer", "transfer-encoding", "upgrade",
    "x-openclaw-token",
}  # fmt: skip
"""Headers of a call to us, or with which it came; `x-forwarded-…` and `proxy-…` are others."""
_FORWARDED = ("x-forwarded-", "proxy-")


async def send_hook(request: Request) -> HookView | Response:
    """Sends a webhook to the agent, as a service in the Internet would.

    `wake` gives it a text and makes a heartbeat come; `agent` begins a turn of its own with a
    `message`; other names are those of `hooks.mappings`. The body is JSON of at most 256 KB, and
    reaches OpenClaw as it is, with its headers. OpenClaw's hooks are switched on by the first call,
    which takes some two seconds longer. A hibernated agent comes back.
    """
    agent = instance(request)
    body = await read_body(request, MAX_BODY_BYTES)
    # OpenClaw reads any body as JSON.
    json_of(body)
    headers = {
        name: value
        for name, value in request.headers.items()
        if name not in _NOT_PASSED_ON and not name.startswith(_FORWARDED)
    }
    name = request.path_params["hook"]
    if not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise HookRefused(name, 404, "the name has an empty part or dots only")
    answer = await while_connected(
        request, lambda: services(request).hooks.call(agent, name, body, headers)
    )
    if answer is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return HookView(status=answer.status, answer=answer.content)


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

    page = await _page(request, services(request).messages, instance, query, matches)
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


async def list_inbox(request: Request) -> Response:
    """The webhooks that the agent sent to its inbox, and the inbox's address.

    Jobs deliver there (`delivery: {"mode": "webhook", "to": …}`), and whatever else the agent runs,
    also without Internet.
    """
    query = parse_query(request, EntriesQuery)
    instance = require_living(await instance_of(request))
    page = await _page(request, services(request).inbox_entries, instance, query)
    if page is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    url = services(request).inbox.address(services(request).relay_url, instance.id)
    return await json_in_thread(
        lambda: InboxView(
            url=url,
            webhooks=[
                WebhookView(**each.content, number=each.number, at=each.at) for each in page.entries
            ],
            after=page.last,
            is_incomplete=page.is_incomplete,
        )
    )


async def clear_inbox(request: Request) -> None:
    """Removes the webhooks of the inbox. Later ones get greater numbers."""
    instance = require_living(await instance_of(request))
    await services(request).inbox_entries.remove(instance.id)


async def _page(
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
