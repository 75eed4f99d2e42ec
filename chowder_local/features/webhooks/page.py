"""The inbox on the dashboard, beside what an agent said without being asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.dashboard.pages import PageParts, notice, part
from chowder_local.dashboard.routes import INSTANCE, Page
from chowder_local.features.webhooks.service import Webhooks
from chowder_local.http.services import instance_of, service, services

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance


async def beside_messages(request: Request, instance: Instance) -> Markup:
    """The latest webhooks, and where the agent sends them."""
    inbox = service(request, Webhooks).inbox
    url = inbox.address(services(request).relay_url, instance.id)
    return part(
        request, "inbox.html", "inbox", instance, url, await inbox.entries.latest(instance.id)
    )


async def clear(request: Request) -> Response:
    """Removes the webhooks of the inbox."""
    instance = await instance_of(request)
    await service(request, Webhooks).inbox.entries.remove(instance.id)
    return notice(request, "The inbox is empty.", '<ul id="webhooks" hx-swap-oob="true"></ul>')


PAGES = (Page("POST", f"{INSTANCE}/inbox/clear", clear),)
PARTS = PageParts(beside_messages=beside_messages)
