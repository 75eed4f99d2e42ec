"""What the local messenger adds to the server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chowder_local.features.feature import Feature, Front
from chowder_local.features.messengers import relay
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.messengers.store import ChannelMessageQueries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.core.domain import Instance
    from chowder_local.features.messengers.stand_in import Webhook
    from chowder_local.services import Services


@asynccontextmanager
async def open_messengers(kernel: Services) -> AsyncIterator[Messengers]:
    async def call_agent(instance: Instance, webhook: Webhook) -> int:
        async with kernel.residency.using(instance) as running:
            gateway = kernel.gateway_of(running.sandbox_id, running.gateway_url)
            status, _ = await gateway.post_hook(webhook.path, webhook.headers, webhook.body)
        return status

    messengers = Messengers(
        queries=ChannelMessageQueries(kernel.database, kernel.secret_box),
        instances=kernel.instances,
        secret_box=kernel.secret_box,
        relay_url=kernel.relay_url,
        events=kernel.events,
        faults=kernel.faults,
        shutdown=kernel.shutdown,
        clock=kernel.clock,
        group=kernel.tasks,
        call_agent=call_agent,
    )
    hooks = kernel.feature_hooks
    hooks.relay_routes.extend(relay.routes(messengers))
    hooks.offline_fields.append(messengers.fields)
    hooks.on_start.append(messengers.begin)
    hooks.on_instance_gone.append(messengers.forget)
    yield messengers


def front() -> Front:
    from chowder_local.features.messengers import api, page

    return Front(operations=api.OPERATIONS, pages=page.PAGES, parts=page.PARTS)


FEATURE = Feature("messengers", __package__, open_messengers, front)
