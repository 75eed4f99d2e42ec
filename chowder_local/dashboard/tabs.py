"""An instance's page is several: what all of them have, and the table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.dashboard.instance_rows import rows
from chowder_local.dashboard.services import page

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import HTMLResponse

    from chowder_local.core.domain import Instance

TABS = (
    ("", "Talk"),
    ("/files", "Files"),
    ("/channels", "Channels"),
    ("/skills", "Skills"),
    ("/config", "Configuration"),
    ("/snapshots", "Snapshots"),
    ("/logs", "Logs"),
)
"""What comes behind the instance's address, and what it is called."""


async def instance_page(
    request: Request, template: str, instance: Instance, *, tab: str, **context: Any
) -> HTMLResponse:
    """One of them; its template extends `instance_layout.html`, and has the instance as `it`."""
    (row,) = await rows(request, [instance])
    return await page(
        request, template, here="/", row=row, it=instance, tab=tab, tabs=TABS, **context
    )
