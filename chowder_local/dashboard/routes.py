"""The dashboard's table of pages: no part of the API, and not in its description.

A page is a row here, a handler that asks the same services as the API's (`state.page` renders a
template that extends `layout.html`), and a link in `layout.html`. A part of a page that changes by
itself has an id and a macro; `streams.Live` renders it anew when one of its sources marks it. What
is done by a click is a POST by htmx; what it answers is put in place by `hx-swap-oob`. A failure
needs no code: `failures.py` makes a page or a line of whatever a handler raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.routing import Route

from chowder_local.dashboard import (
    assets,
    call_detail,
    channels,
    config,
    editor,
    faults,
    files,
    inspector,
    instance,
    instance_actions,
    keys,
    live,
    logs,
    organization,
    overview,
    recordings,
    replies,
    sign_in,
    skills,
    snapshots,
    transcript_rows,
    usage,
)
from chowder_local.dashboard.guard import guarded
from chowder_local.dashboard.services import dashboard

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from chowder_local.api.access import Handler


@dataclass(frozen=True)
class Page:
    """One method of one address; `is_open` for who is not signed in, too.

    Audited is what is so in the API's table.
    """

    method: str
    path: str
    handler: Handler
    is_open: bool = False
    is_audited: bool = False


INSTANCE = "/instances/{instance_id}"
SNAPSHOT = f"{INSTANCE}/snapshots/{{snapshot_id}}"
CHANNEL = f"{INSTANCE}/channels/{{channel}}"
EXCHANGE = "/inspector/{exchange_id}"
RECORDING = "/recordings/{instance_id}"
KEY = "/organization/keys/{key_id}"

PAGES: tuple[Page, ...] = (
    Page("GET", "/", overview.show),
    Page("GET", "/live", live.follow),
    Page("GET", "/health", overview.health),
    Page("POST", "/instances", instance_actions.create),
    Page("GET", "/instances/import", instance_actions.ask_import),
    Page("POST", "/instances/import", instance_actions.take_in),
    Page("GET", INSTANCE, instance.show),
    Page("GET", f"{INSTANCE}/conversation", instance.conversation),
    Page("POST", f"{INSTANCE}/messages", instance.say),
    Page("GET", f"{INSTANCE}/answers/{{token}}", instance.listen),
    Page("GET", f"{INSTANCE}/turns/{{position}}", transcript_rows.show),
    Page("GET", f"{INSTANCE}/turns/{{position}}/file", transcript_rows.download),
    Page("POST", f"{INSTANCE}/stop", instance_actions.stop),
    Page("POST", f"{INSTANCE}/start", instance_actions.start),
    Page("GET", f"{INSTANCE}/fork", instance_actions.ask_fork),
    Page("POST", f"{INSTANCE}/fork", instance_actions.fork),
    Page("GET", f"{INSTANCE}/delete", instance_actions.ask_delete),
    Page("POST", f"{INSTANCE}/delete", instance_actions.delete, is_audited=True),
    Page("GET", f"{INSTANCE}/export", snapshots.export),
    Page("GET", f"{INSTANCE}/files", files.show),
    Page("GET", f"{INSTANCE}/files/edit", editor.show),
    Page("POST", f"{INSTANCE}/files/save", editor.save),
    Page("POST", f"{INSTANCE}/files/upload", files.upload),
    Page("GET", f"{INSTANCE}/files/download", files.download),
    Page("GET", f"{INSTANCE}/logs", logs.show),
    Page("GET", f"{INSTANCE}/logs/live", logs.follow),
    Page("GET", f"{INSTANCE}/snapshots", snapshots.show),
    Page("POST", f"{INSTANCE}/snapshots", snapshots.take),
    Page("GET", f"{INSTANCE}/snapshots/live", snapshots.follow),
    Page("GET", f"{SNAPSHOT}/restore", snapshots.ask_restore),
    Page("POST", f"{SNAPSHOT}/restore", snapshots.restore, is_audited=True),
    Page("GET", f"{SNAPSHOT}/fork", snapshots.ask_fork),
    Page("POST", f"{SNAPSHOT}/fork", snapshots.fork),
    Page("GET", f"{SNAPSHOT}/delete", snapshots.ask_delete),
    Page("POST", f"{SNAPSHOT}/delete", snapshots.delete, is_audited=True),
    Page("GET", f"{INSTANCE}/channels", channels.show),
    Page("GET", f"{INSTANCE}/channels/list", channels.index),
    Page("GET", f"{INSTANCE}/channels/states", channels.watch),
    Page("POST", f"{CHANNEL}/connect", channels.connect),
    Page("POST", f"{CHANNEL}/pair", channels.pair),
    Page("GET", f"{CHANNEL}/disconnect", channels.ask_disconnect),
    Page("POST", f"{CHANNEL}/disconnect", channels.disconnect),
    Page("GET", f"{INSTANCE}/skills", skills.show),
    Page("POST", f"{INSTANCE}/skills", skills.install),
    Page("GET", f"{INSTANCE}/skills/list", skills.index),
    Page("GET", f"{INSTANCE}/skills/one", skills.details),
    Page("POST", f"{INSTANCE}/skills/one", skills.change),
    Page("GET", f"{INSTANCE}/skills/one/details", skills.detailed),
    Page("GET", f"{INSTANCE}/config", config.show),
    Page("POST", f"{INSTANCE}/config", config.save),
    Page("GET", f"{INSTANCE}/config/editor", config.edit),
    Page("POST", f"{INSTANCE}/config/check", config.check),
    Page("GET", "/inspector", inspector.show),
    Page("GET", "/inspector/live", inspector.follow),
    Page("GET", EXCHANGE, call_detail.show),
    Page("POST", f"{EXCHANGE}/script", call_detail.script),
    Page("POST", f"{EXCHANGE}/fail", call_detail.fail),
    Page("GET", "/usage", usage.show),
    Page("GET", "/faults", faults.show),
    Page("POST", "/faults", faults.add),
    Page("GET", "/faults/live", faults.follow),
    Page("GET", "/faults/clear", faults.ask_clear),
    Page("POST", "/faults/clear", faults.clear),
    Page("POST", "/faults/{fault_id}/remove", faults.remove),
    Page("GET", "/recordings", replies.show),
    Page("GET", "/recordings/live", replies.follow),
    Page("POST", "/recordings/replies", replies.put),
    Page("GET", "/recordings/replies/clear", replies.ask_clear),
    Page("POST", "/recordings/replies/clear", replies.clear),
    Page("GET", f"{RECORDING}/file", recordings.download),
    Page("POST", f"{RECORDING}/play", recordings.play),
    Page("GET", f"{RECORDING}/load", recordings.ask_load),
    Page("POST", f"{RECORDING}/load", recordings.load),
    Page("POST", f"{RECORDING}/stop", recordings.stop),
    Page("GET", "/organization", organization.show),
    Page("POST", "/organization/name", organization.rename),
    Page("POST", "/organization/model-keys", organization.set_model_key, is_audited=True),
    Page("GET", "/organization/model-keys/clear", organization.ask_clear_model_key),
    Page("POST", "/organization/model-keys/clear", organization.clear_model_key, is_audited=True),
    Page("POST", "/organization/keys", keys.create, is_audited=True),
    Page("GET", f"{KEY}/revoke", keys.ask_revoke),
    Page("POST", f"{KEY}/revoke", keys.revoke, is_audited=True),
    Page("GET", "/subscription", organization.subscription),
    Page("POST", "/subscription/checkout", organization.checkout),
    Page("POST", "/subscription/portal", organization.portal),
    Page("GET", "/sign-in", sign_in.show, is_open=True),
    Page("POST", "/sign-in", sign_in.sign_in, is_open=True),
    Page("POST", "/sign-in/link", sign_in.follow_link, is_open=True),
    Page("POST", "/sign-out", sign_in.sign_out),
)


def dashboard_routes(pages: Iterable[Page] = PAGES) -> list[Route]:
    """Starlette's routes for the table, one an address, and that of the static files."""
    paths: dict[str, dict[str, Handler]] = {}
    audited: dict[str, set[str]] = {}
    for each in pages:
        if each.is_audited:
            audited.setdefault(each.path, set()).add(each.method)
        handler = guarded(each.handler, is_open=each.is_open)
        paths.setdefault(each.path, {})[each.method] = handler
    made = [
        Route(path, _Endpoint(handlers, audited.get(path, ())), methods=list(handlers))
        for path, handlers in paths.items()
    ]
    return [*made, Route(assets.PATH, _asset)]


async def _asset(request: Request) -> Response:
    return dashboard(request).assets.serve(request.path_params["name"])


class _Endpoint:
    """The handlers of an address; what they raise is rendered where everything is."""

    def __init__(self, handlers: dict[str, Handler], audited: Collection[str]) -> None:
        self._handlers = handlers
        self.audited = audited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        method = "GET" if request.method == "HEAD" else request.method
        response = await self._handlers[method](request)
        await response(scope, receive, send)
