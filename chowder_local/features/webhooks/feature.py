"""What webhooks add to the server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chowder_local.features.feature import Feature, Front
from chowder_local.features.webhooks import relay
from chowder_local.features.webhooks.inbox import Inbox
from chowder_local.features.webhooks.service import Hooks, Webhooks
from chowder_local.features.webhooks.store import InboxRequestRow
from chowder_local.store.agent_entries import AgentEntries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.services import Services


@asynccontextmanager
async def open_webhooks(kernel: Services) -> AsyncIterator[Webhooks]:
    hooks = Hooks(
        residency=kernel.residency,
        unasked_turns=kernel.unasked_turns,
        gateway_of=kernel.waiting_gateway_of,
        secret_box=kernel.secret_box,
    )
    inbox = Inbox(
        secret_box=kernel.secret_box,
        instances=kernel.instances,
        entries=AgentEntries(kernel.database, kernel.secret_box, InboxRequestRow, kernel.shutdown),
        events=kernel.events,
        clock=kernel.clock,
    )
    kernel.feature_hooks.relay_routes.extend(relay.routes(inbox))
    yield Webhooks(hooks, inbox)


def front() -> Front:
    from chowder_local.features.webhooks import api, page

    return Front(operations=api.OPERATIONS, pages=page.PAGES, parts=page.PARTS)


FEATURE = Feature("webhooks", __package__, open_webhooks, front)
