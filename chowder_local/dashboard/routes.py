"""The table of the dashboard's pages, which are not part of the API.

A page is a row here, a handler that calls the same services as the API's (`pages.page` renders a
template that extends `layout.html`), and a link in `layout.html`. A part of a page that changes has
an id and a macro, which `pages.part` renders. A `streams.LiveStream` sends it again when one of its
sources marks a change. A button's POST by htmx returns `pages.notice` with the changed parts, which
replace the old ones by `hx-swap-oob`. Handlers raise errors, and `errors.py` renders them as a page
or a message.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chowder_local.dashboard import (
    activity,
    channels,
    config,
    conversation,
    faults,
    files,
    guide,
    instances,
    logs,
    messages,
    model_calls,
    organization,
    overview,
    rendering,
    replies,
    runs,
    sign_in,
    skills,
    snapshots,
    usage,
)
from chowder_local.dashboard.pages import dashboard
from chowder_local.dashboard.sign_in import guarded
from chowder_local.http.endpoints import Endpoint, path_route, request_response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp

    from chowder_local.http.endpoints import Handler


@dataclass(frozen=True)
class Page:
    """A method of a path; `is_open` if it needs no session."""

    method: str
    path: str
    handler: Handler
    is_open: bool = False
    is_audited: bool = False
    """Whether the request log has details of each call, as in the API's table."""


INSTANCE = "/instances/{instance_id}"
SNAPSHOT = f"{INSTANCE}/snapshots/{{snapshot_id}}"
CHANNEL = f"{INSTANCE}/channels/{{channel}}"
MODEL_CALL = "/model-calls/{model_call_id}"
RECORDING = "/replies/recordings/{instance_id}"
KEY = "/organization/keys/{key_id}"

PAGES: tuple[Page, ...] = (
    Page("GET", "/", overview.show),
    Page("GET", "/overview/live", overview.follow),
    Page("GET", "/overview/health", overview.show_health),
    Page("POST", "/instances", instances.create),
    Page("GET", "/instances/import", instances.choose_import),
    Page("POST", "/instances/import", instances.import_archive),
    Page("GET", INSTANCE, conversation.show),
    Page("GET", f"{INSTANCE}/conversation", conversation.show_conversation),
    Page("POST", f"{INSTANCE}/messages", conversation.send),
    Page("GET", f"{INSTANCE}/answers/{{token}}", conversation.stream_answer),
    Page("GET", f"{INSTANCE}/turns/{{position}}", conversation.show_turn),
    Page("GET", f"{INSTANCE}/turns/{{position}}/file", conversation.download_turn),
    Page("POST", f"{INSTANCE}/stop", instances.stop),
    Page("POST", f"{INSTANCE}/start", instances.start),
    Page("GET", f"{INSTANCE}/fork", instances.propose_fork),
    Page("POST", f"{INSTANCE}/fork", instances.fork),
    Page("GET", f"{INSTANCE}/delete", instances.confirm_delete),
    Page("POST", f"{INSTANCE}/delete", instances.delete, is_audited=True),
    Page("GET", f"{INSTANCE}/export", snapshots.export),
    Page("GET", f"{INSTANCE}/files", files.show),
    Page("GET", f"{INSTANCE}/files/edit", files.edit),
    Page("POST", f"{INSTANCE}/files/save", files.save),
    Page("POST", f"{INSTANCE}/files/upload", files.upload),
    Page("GET", f"{INSTANCE}/files/download", files.download),
    Page("GET", f"{INSTANCE}/logs", logs.show),
    Page("GET", f"{INSTANCE}/logs/live", logs.follow),
    Page("GET", f"{INSTANCE}/activity", activity.show),
    Page("GET", f"{INSTANCE}/activity/list", activity.index),
    Page("GET", f"{INSTANCE}/activity/live", activity.follow),
    Page("POST", f"{INSTANCE}/activity/cancel", activity.cancel),
    Page("POST", f"{INSTANCE}/activity/{{item_id}}/cancel", activity.cancel),
    Page("GET", f"{INSTANCE}/unasked", messages.show),
    Page("GET", f"{INSTANCE}/unasked/live", messages.follow),
    Page("GET", f"{INSTANCE}/snapshots", snapshots.show),
    Page("POST", f"{INSTANCE}/snapshots", snapshots.take),
    Page("GET", f"{INSTANCE}/snapshots/live", snapshots.follow),
    Page("GET", f"{SNAPSHOT}/restore", snapshots.confirm_restore),
    Page("POST", f"{SNAPSHOT}/restore", snapshots.restore, is_audited=True),
    Page("GET", f"{SNAPSHOT}/fork", snapshots.propose_fork),
    Page("POST", f"{SNAPSHOT}/fork", snapshots.fork),
    Page("GET", f"{SNAPSHOT}/delete", snapshots.confirm_delete),
    Page("POST", f"{SNAPSHOT}/delete", snapshots.delete, is_audited=True),
    Page("GET", f"{INSTANCE}/channels", channels.show),
    Page("GET", f"{INSTANCE}/channels/list", channels.index),
    Page("GET", f"{INSTANCE}/channels/states", channels.poll),
    Page("POST", f"{CHANNEL}/connect", channels.connect),
    Page("POST", f"{CHANNEL}/pair", channels.pair),
    Page("GET", f"{CHANNEL}/disconnect", channels.confirm_disconnect),
    Page("POST", f"{CHANNEL}/disconnect", channels.disconnect),
    Page("GET", f"{INSTANCE}/skills", skills.show),
    Page("POST", f"{INSTANCE}/skills", skills.install),
    Page("GET", f"{INSTANCE}/skills/list", skills.index),
    Page("GET", f"{INSTANCE}/skills/one", skills.show_one),
    Page("POST", f"{INSTANCE}/skills/one", skills.change),
    Page("GET", f"{INSTANCE}/skills/one/details", skills.show_details),
    Page("GET", f"{INSTANCE}/config", config.show),
    Page("POST", f"{INSTANCE}/config", config.save),
    Page("GET", f"{INSTANCE}/config/editor", config.edit),
    Page("POST", f"{INSTANCE}/config/check", config.check),
    Page("GET", "/model-calls", model_calls.show),
    Page("GET", "/model-calls/live", model_calls.follow),
    Page("GET", MODEL_CALL, model_calls.show_call),
    Page("POST", f"{MODEL_CALL}/script", model_calls.add_to_script),
    Page("POST", f"{MODEL_CALL}/fail", model_calls.fail_next_message),
    Page("GET", "/diff", runs.show),
    Page("GET", "/usage", usage.show),
    Page("GET", "/faults", faults.show),
    Page("POST", "/faults", faults.add),
    Page("GET", "/faults/live", faults.follow),
    Page("GET", "/faults/clear", faults.confirm_clear),
    Page("POST", "/faults/clear", faults.clear),
    Page("POST", "/faults/{fault_id}/remove", faults.remove),
    Page("GET", "/replies", replies.show),
    Page("GET", "/replies/live", replies.follow),
    Page("POST", "/replies/script", replies.put),
    Page("GET", "/replies/script/clear", replies.confirm_clear),
    Page("POST", "/replies/script/clear", replies.clear),
    Page("GET", f"{RECORDING}/file", replies.download_recording),
    Page("POST", f"{RECORDING}/play", replies.replay_calls),
    Page("GET", f"{RECORDING}/load", replies.choose_recording),
    Page("POST", f"{RECORDING}/load", replies.load_recording),
    Page("POST", f"{RECORDING}/stop", replies.stop_replay),
    Page("GET", "/organization", organization.show),
    Page("POST", "/organization/name", organization.rename),
    Page("POST", "/organization/model-keys", organization.set_model_key, is_audited=True),
    Page("GET", "/organization/model-keys/clear", organization.confirm_clear_model_key),
    Page("POST", "/organization/model-keys/clear", organization.clear_model_key, is_audited=True),
    Page("POST", "/organization/keys", organization.create_key, is_audited=True),
    Page("GET", f"{KEY}/revoke", organization.confirm_revoke),
    Page("POST", f"{KEY}/revoke", organization.revoke_key, is_audited=True),
    Page("GET", "/subscription", organization.show_subscription),
    Page("POST", "/subscription/checkout", organization.begin_checkout),
    Page("POST", "/subscription/portal", organization.open_portal),
    Page("GET", "/guide", guide.show, is_open=True),
    Page("GET", "/guide/{path:path}", guide.show, is_open=True),
    Page("GET", "/sign-in", sign_in.show, is_open=True),
    Page("POST", "/sign-in", sign_in.sign_in, is_open=True),
    Page("POST", "/sign-in/link", sign_in.follow_link, is_open=True),
    Page("POST", "/sign-out", sign_in.sign_out),
)
FORMER_PAGES = (
    *(
        replace(each, path=each.path.replace("/model-calls", "/inspector", 1))
        for each in PAGES
        if each.path.startswith("/model-calls")
    ),
    Page("GET", "/recordings", replies.show),
)
"""The addresses of release 0.1, which work until 0.3."""

LINKED_PAGES: tuple[Page, ...] = (
    Page("GET", "/local/checkout", organization.show_checkout),
    Page("POST", "/local/checkout", organization.pay),
    Page("GET", "/local/portal", organization.show_portal),
    Page("POST", "/local/portal", organization.choose),
)
"""Pages whose links authorize instead of a session; programs may follow them, too."""


def dashboard_routes(pages: Iterable[Page]) -> list[Route]:
    """Starlette's routes for the pages, one for each path, and the route of static files."""
    paths: dict[str, dict[str, ASGIApp]] = {}
    audited: dict[str, set[str]] = {}
    for each in (*pages, *FORMER_PAGES):
        if each.is_audited:
            audited.setdefault(each.path, set()).add(each.method)
        handler = guarded(each.handler, is_open=each.is_open)
        paths.setdefault(each.path, {})[each.method] = request_response(handler)
    for each in LINKED_PAGES:
        paths.setdefault(each.path, {})[each.method] = request_response(each.handler)
    paths[rendering.ASSETS_PATH] = {"GET": request_response(_serve_asset)}
    return [path_route(path, Endpoint(apps, audited.get(path, ()))) for path, apps in paths.items()]


async def _serve_asset(request: Request) -> Response:
    return dashboard(request).assets.serve(request.path_params["name"])
