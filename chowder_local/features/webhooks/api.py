"""The calls of webhooks: their rows of the route table, and their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from chowder_local.api.access import Access
from chowder_local.api.handlers.messages import page_of
from chowder_local.api.operations import Operation
from chowder_local.api.schemas.messages import EntriesQuery
from chowder_local.features.webhooks.errors import HookRefused
from chowder_local.features.webhooks.model import HookBody, HookView, InboxView, WebhookView
from chowder_local.features.webhooks.service import MAX_BODY_BYTES, Webhooks
from chowder_local.http.bodies import json_of, parse_query, read_body
from chowder_local.http.responses import CLIENT_CLOSED_REQUEST, json_in_thread, while_connected
from chowder_local.http.services import instance, instance_of, require_living, service, services

if TYPE_CHECKING:
    from starlette.requests import Request

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
        request, lambda: service(request, Webhooks).hooks.call(agent, name, body, headers)
    )
    if answer is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return HookView(status=answer.status, answer=answer.content)


async def list_inbox(request: Request) -> Response:
    """The webhooks that the agent sent to its inbox, and the inbox's address.

    Jobs deliver there (`delivery: {"mode": "webhook", "to": …}`), and whatever else the agent runs,
    also without Internet.
    """
    query = parse_query(request, EntriesQuery)
    agent = require_living(await instance_of(request))
    page = await page_of(request, service(request, Webhooks).inbox.entries, agent, query)
    if page is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    url = service(request, Webhooks).inbox.address(services(request).relay_url, agent.id)
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
    agent = require_living(await instance_of(request))
    await service(request, Webhooks).inbox.entries.remove(agent.id)


OPERATIONS = (
    Operation(
        "POST",
        "/local/instances/{instance_id}/hooks/{hook:path}",
        send_hook,
        Access.INTERACT,
        "sendHook",
        "Send a webhook to an agent",
        body=HookBody,
        answer=HookView,
        errors=(400, 409, 502),
        tool="send_hook",
    ),
    Operation(
        "GET",
        "/local/instances/{instance_id}/inbox",
        list_inbox,
        Access.ORGANIZATION,
        "listInbox",
        "List an agent's webhooks",
        answer=InboxView,
        query=EntriesQuery,
        tool="list_inbox",
    ),
    Operation(
        "DELETE",
        "/local/instances/{instance_id}/inbox",
        clear_inbox,
        Access.ORGANIZATION,
        "clearInbox",
        "Clear an inbox",
        status=204,
    ),
)
