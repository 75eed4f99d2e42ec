"""The one route table: an index of what the server answers, and what /openapi.json is made from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from chowder_local.api.access import Access, guarded
from chowder_local.api.fault_injection import faulty
from chowder_local.api.local import (
    events,
    exchanges,
    faults,
    history,
    recordings,
    replies,
    reset,
    server,
    snapshots,
)
from chowder_local.api.local import instances as local_instances
from chowder_local.api.schemas.channels import (
    ChannelConnecting,
    ChannelInfoView,
    ChannelStatusView,
    ChannelView,
    ConnectionView,
    Pairing,
    PairingView,
)
from chowder_local.api.schemas.exchanges import ExchangeDetailsView, ExchangeQuery, ExchangeView
from chowder_local.api.schemas.faults import FaultCreation, FaultView, ResetView
from chowder_local.api.schemas.files import (
    FileQuery,
    FileUpload,
    FileView,
    FileWriting,
    FolderQuery,
    FolderView,
)
from chowder_local.api.schemas.history import (
    KeyedTranscriptQuery,
    SessionsView,
    TranscriptQuery,
    TranscriptView,
)
from chowder_local.api.schemas.instances import (
    InstanceChange,
    InstanceCreation,
    InstanceStatusView,
    InstanceView,
)
from chowder_local.api.schemas.keys import KeyCreation, KeyDetailsView, KeyView, NewKeyView
from chowder_local.api.schemas.local import (
    GatewayView,
    HealthView,
    LocalInstanceChange,
    LocalInstanceView,
    LogQuery,
    ReadyView,
)
from chowder_local.api.schemas.organization import (
    OrganizationChange,
    OrganizationView,
    Signup,
    SignupView,
)
from chowder_local.api.schemas.recordings import RecordingPlayback, RecordingQuery, RecordingView
from chowder_local.api.schemas.replies import RepliesView, ReplyScriptChange
from chowder_local.api.schemas.responses import Message, ResponseView
from chowder_local.api.schemas.skills import (
    SkillChange,
    SkillDetailsView,
    SkillInstallation,
    SkillInstallationView,
    SkillQuery,
    SkillView,
)
from chowder_local.api.schemas.snapshots import (
    Fork,
    ImportQuery,
    Restoration,
    SnapshotCreation,
    SnapshotView,
)
from chowder_local.api.schemas.subscription import CheckoutCreation, LinkView, SubscriptionView
from chowder_local.api.schemas.usage import UsageQuery, UsageReportView
from chowder_local.api.v1 import (
    channels,
    files,
    instances,
    keys,
    organization,
    responses,
    skills,
    subscription,
)
from chowder_local.http.middleware import QUEUE_POSITION_HEADER

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pydantic import BaseModel
    from starlette.types import Receive, Scope, Send

    from chowder_local.api.access import Handler

ANYONE, ANY_KEY, ORG = Access.ANYONE, Access.ANY_KEY, Access.ORGANIZATION
READ, INTERACT, CONFIGURE = Access.READ, Access.INTERACT, Access.CONFIGURE
FILES, CHANNELS = Access.FILES, Access.CHANNELS
EVENTS = ("text/event-stream",)


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    `operation_id` names it in generated clients: to change one breaks them. `body` is its model, or the media type of bytes that are taken as they come. `answer` is the
    answer's model, a list of one, a media type or None; `other_answers` are media
    types that it may have instead. `errors` need not name what every such operation can answer:
    401, 403 and 404 of its access, 413, 415, 422 and 503 of its body, 422 of its query. `headers`
    are those that its answer may have besides every answer's.
    """

    method: str
    path: str
    handler: Handler
    access: Access
    operation_id: str
    summary: str
    body: type[BaseModel] | str | None = None
    answer: type[BaseModel] | list[type[BaseModel]] | str | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    query: type[BaseModel] | None = None
    body_type: str = "application/json"
    other_answers: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    is_audited: bool = False

    @property
    def tag(self) -> str:
        """The subject, for grouping in the documentation."""
        if not self.path.startswith("/v1/"):
            return "local"
        subject, *below = [word for word in self.path.split("/")[2:] if "{" not in word]
        if "responses" in below:
            return "messages"
        return below[0] if below and below[0] in {"channels", "skills", "files"} else subject


POLLED = "/v1/instances/{instance_id}/status"
IMPORT = "/local/instances/import"

# fmt: off
OPERATIONS: tuple[Operation, ...] = (
    Operation("POST",   "/v1/organization/signup",                                   organization.signup,     ANYONE,    "signUp",                "Sign up",                     Signup,             SignupView, 201),
    Operation("GET",    "/v1/organization",                                          organization.show,       ORG,       "getOrganization",       "Show the organization",       None,               OrganizationView),
    Operation("PATCH",  "/v1/organization",                                          organization.change,     ORG,       "updateOrganization",    "Change the organization",     OrganizationChange, OrganizationView, is_audited=True),
    Operation("POST",   "/v1/instances",                                             instances.create,        ORG,       "createInstance",        "Create an instance",          InstanceCreation,   InstanceView, 201, (400, 402)),
    Operation("GET",    "/v1/instances",                                             instances.index,         ANY_KEY,   "listInstances",         "List instances",              None,               [InstanceView]),
    Operation("GET",    "/v1/instances/{instance_id}",                               instances.show,          READ,      "getInstance",           "Show an instance",            None,               InstanceView),
    Operation("PATCH",  "/v1/instances/{instance_id}",                               instances.change,        CONFIGURE, "updateInstance",        "Change an instance",          InstanceChange,     InstanceView, 200, (400, 409, 502)),
    Operation("DELETE", "/v1/instances/{instance_id}",                               instances.delete,        ORG,       "deleteInstance",        "Delete an instance",          None,               None, 204, (502,), is_audited=True),
    Operation("GET",    "/v1/instances/{instance_id}/status",                        instances.status,        READ,      "getInstanceStatus",     "Poll an instance",            None,               InstanceStatusView, headers=(QUEUE_POSITION_HEADER,)),
    Operation("POST",   "/v1/instances/{instance_id}/stop",                          instances.stop,          ORG,       "stopInstance",          "Stop an instance",            None,               InstanceView, 200, (409, 502)),
    Operation("POST",   "/v1/instances/{instance_id}/start",                         instances.start,         ORG,       "startInstance",         "Start an instance",           None,               InstanceView, 200, (409, 502)),
    Operation("POST",   "/v1/instances/{instance_id}/responses",                     responses.respond,       INTERACT,  "createResponse",        "Send a message",              Message,            ResponseView, 200, (400, 409, 502), other_answers=EVENTS),
    Operation("POST",   "/v1/instances/{instance_id}/session/{session_id:path}/responses",
                                                                                     responses.respond,       INTERACT,  "createSessionResponse", "Send a message to a session", Message,            ResponseView, 200, (400, 409, 502), other_answers=EVENTS),
    Operation("GET",    "/v1/instances/{instance_id}/channels",                      channels.index,          CHANNELS,  "listChannels",          "List channels",               None,               [ChannelView], 200, (409, 502)),
    Operation("GET",    "/v1/instances/{instance_id}/channels/{channel}",            channels.info,           ANYONE,    "getChannel",            "Show what a channel takes",   None,               ChannelInfoView, 200, (404,)),
    Operation("POST",   "/v1/instances/{instance_id}/channels/{channel}/connect",    channels.connect,        CHANNELS,  "connectChannel",        "Connect a channel",           ChannelConnecting,  ConnectionView, 200, (400, 409, 502)),
    Operation("GET",    "/v1/instances/{instance_id}/channels/{channel}/status",     channels.status,         CHANNELS,  "getChannelStatus",      "Look at a channel",           None,               ChannelStatusView, 200, (409, 502)),
    Operation("POST",   "/v1/instances/{instance_id}/channels/{channel}/pair",       channels.pair,           CHANNELS,  "pairChannel",           "Let a sender in",             Pairing,            PairingView, 200, (400, 409, 502)),
    Operation("POST",   "/v1/instances/{instance_id}/channels/{channel}/disconnect", channels.disconnect,     CHANNELS,  "disconnectChannel",     "Disconnect a channel",        None,               None, 204, (409, 502)),
    Operation("GET",    "/v1/instances/{instance_id}/files",                         files.index,             FILES,     "listFiles",             "List a folder",               None,               FolderView, 200, (400, 409, 502), FolderQuery),
    Operation("GET",    "/v1/instances/{instance_id}/files/content",                 files.read,              FILES,     "readFile",              "Read a text file",            None,               FileView, 200, (400, 409, 413, 502), FileQuery),
    Operation("PUT",    "/v1/instances/{instance_id}/files/content",                 files.write,             FILES,     "writeFile",             "Write a text file",           FileWriting,        None, 204, (400, 409, 502)),
    Operation("POST",   "/v1/instances/{instance_id}/files/upload",                  files.upload,            FILES,     "uploadFile",            "Upload a file",               FileUpload,         None, 204, (400, 409, 502), body_type="multipart/form-data"),
    Operation("GET",    "/v1/instances/{instance_id}/files/download",                files.download,          FILES,     "downloadFile",          "Download a file",             None,               "application/octet-stream", 200, (400, 409, 502), FileQuery),
    Operation("GET",    "/v1/instances/{instance_id}/skills",                        skills.index,            CONFIGURE, "listSkills",            "List skills",                 None,               [SkillView], 200, (409, 502), SkillQuery),
    Operation("POST",   "/v1/instances/{instance_id}/skills/install",                skills.install,          CONFIGURE, "installSkill",          "Install a skill",             SkillInstallation,  SkillInstallationView, 200, (400, 409, 502)),
    Operation("GET",    "/v1/instances/{instance_id}/skills/{skill_name:path}",      skills.show,             CONFIGURE, "getSkill",              "Show a skill",                None,               SkillDetailsView, 200, (409, 502)),
    Operation("PATCH",  "/v1/instances/{instance_id}/skills/{skill_name:path}",      skills.change,           CONFIGURE, "updateSkill",           "Change a skill",              SkillChange,        None, 204, (400, 409, 502)),
    Operation("POST",   "/v1/keys",                                                  keys.create,             ORG,       "createKey",             "Create a key",                KeyCreation,        NewKeyView, 201, (404,), is_audited=True),
    Operation("GET",    "/v1/keys",                                                  keys.index,              ORG,       "listKeys",              "List keys",                   None,               [KeyView]),
    Operation("GET",    "/v1/keys/{key_id}",                                         keys.show,               ORG,       "getKey",                "Show a key",                  None,               KeyDetailsView),
    Operation("DELETE", "/v1/keys/{key_id}",                                         keys.revoke,             ORG,       "revokeKey",             "Revoke a key",                None,               None, 204, is_audited=True),
    Operation("GET",    "/v1/subscription",                                          subscription.show,       ORG,       "getSubscription",       "Show the subscription",       None,               SubscriptionView),
    Operation("POST",   "/v1/subscription/checkout",                                 subscription.checkout,   ORG,       "createCheckout",        "Begin a checkout",            CheckoutCreation,   LinkView),
    Operation("POST",   "/v1/subscription/portal",                                   subscription.portal,     ORG,       "createPortal",          "Open the portal",             None,               LinkView),
    Operation("GET",    "/local/health",                                             server.health,           ANYONE,    "getHealth",             "How the server is",           None,               HealthView),
    Operation("GET",    "/local/ready",                                              server.ready,            ANYONE,    "getReadiness",          "Whether calls are taken",     None,               ReadyView),
    Operation("GET",    "/local/metrics",                                            server.metrics,          ANYONE,    "getMetrics",            "Read the metrics",            None,               "text/plain"),
    Operation("GET",    "/local/events",                                             events.follow,           ORG,       "streamEvents",          "Follow what happens",         None,               "text/event-stream"),
    Operation("POST",   "/local/instances/import",                                   snapshots.take_in,       ORG,       "importInstance",        "Import an instance",          "application/octet-stream", InstanceView, 201, (400, 402, 413), ImportQuery),
    Operation("GET",    "/local/instances/{instance_id}",                            local_instances.show,    ORG,       "getEgress",             "Show its egress",             None,               LocalInstanceView),
    Operation("PATCH",  "/local/instances/{instance_id}",                            local_instances.change,  ORG,       "setEgress",             "Choose its egress",           LocalInstanceChange, LocalInstanceView, 200, (400, 409), is_audited=True),
    Operation("GET",    "/local/instances/{instance_id}/logs",                       local_instances.logs,    ORG,       "readLogs",              "Read a sandbox's log",        None,               "text/plain", 200, (409, 502), LogQuery),
    Operation("GET",    "/local/instances/{instance_id}/gateway",                    local_instances.gateway, ORG,       "getGateway",            "Reach a gateway directly",    None,               GatewayView, 200, (409,)),
    Operation("GET",    "/local/instances/{instance_id}/exchanges",                  exchanges.index,         ORG,       "listExchanges",         "List its model calls",        None,               [ExchangeView], query=ExchangeQuery),
    Operation("GET",    "/local/exchanges/{exchange_id}",                            exchanges.show,          ORG,       "getExchange",           "Show a model call",           None,               ExchangeDetailsView, 200, (404,)),
    Operation("GET",    "/local/replies",                                            replies.show,            ORG,       "getReplies",            "Show scripted replies",       None,               RepliesView),
    Operation("PUT",    "/local/replies",                                            replies.put,             ORG,       "setReplies",            "Script replies",              ReplyScriptChange,  RepliesView),
    Operation("DELETE", "/local/replies",                                            replies.remove,          ORG,       "deleteReplies",         "Remove scripted replies",     None,               None, 204),
    Operation("GET",    "/local/instances/{instance_id}/replies",                    replies.show,            ORG,       "getInstanceReplies",    "Show an agent's replies",     None,               RepliesView),
    Operation("PUT",    "/local/instances/{instance_id}/replies",                    replies.put,             ORG,       "setInstanceReplies",    "Script an agent's replies",   ReplyScriptChange,  RepliesView),
    Operation("DELETE", "/local/instances/{instance_id}/replies",                    replies.remove,          ORG,       "deleteInstanceReplies", "Remove an agent's replies",   None,               None, 204),
    Operation("GET",    "/local/instances/{instance_id}/recording",                  recordings.show,         ORG,       "getRecording",          "Record an agent",             None,               RecordingView, query=RecordingQuery),
    Operation("PUT",    "/local/instances/{instance_id}/recording",                  recordings.put,          ORG,       "setRecording",          "Replay a recording",          RecordingPlayback,  RecordingView),
    Operation("DELETE", "/local/instances/{instance_id}/recording",                  recordings.remove,       ORG,       "deleteRecording",       "End a replay",                None,               None, 204),
    Operation("POST",   "/local/faults",                                             faults.add,              ORG,       "createFault",           "Set a fault",                 FaultCreation,      FaultView, 201, (404, 409)),
    Operation("GET",    "/local/faults",                                             faults.index,            ORG,       "listFaults",            "List faults",                 None,               [FaultView]),
    Operation("DELETE", "/local/faults",                                             faults.clear,            ORG,       "deleteFaults",          "Take all faults back",        None,               None, 204),
    Operation("DELETE", "/local/faults/{fault_id}",                                  faults.remove,           ORG,       "deleteFault",           "Take a fault back",           None,               None, 204),
    Operation("POST",   "/local/reset",                                              reset.reset,            ORG,       "resetOrganization",     "Begin anew",                  None,               ResetView, 200, (502,), is_audited=True),
    Operation("GET",    "/local/instances/{instance_id}/sessions",                   history.sessions,        ORG,       "listSessions",          "List conversations",          None,               SessionsView, 200, (409, 502)),
    Operation("GET",    "/local/instances/{instance_id}/transcript",                 history.main,            ORG,       "readTranscript",        "Read what was said",          None,               TranscriptView, 200, (409, 502), KeyedTranscriptQuery),
    Operation("GET",    "/local/instances/{instance_id}/sessions/{session_id:path}/transcript",
                                                                                     history.named,           ORG,       "readSessionTranscript", "Read what was said in a session", None,           TranscriptView, 200, (409, 502), TranscriptQuery),
    Operation("GET",    "/local/instances/{instance_id}/usage",                      history.usage_of_instance, ORG,     "getInstanceUsage",      "Show what an agent has used", None,               UsageReportView, 200, (), UsageQuery),
    Operation("GET",    "/local/usage",                                              history.usage,           ORG,       "getUsage",              "Show what was used",          None,               UsageReportView, 200, (), UsageQuery),
    Operation("POST",   "/local/instances/{instance_id}/snapshots",                  snapshots.create,        ORG,       "createSnapshot",        "Take a snapshot",             SnapshotCreation,   SnapshotView, 201, (400, 409, 502)),
    Operation("GET",    "/local/instances/{instance_id}/snapshots",                  snapshots.of_instance,   ORG,       "listInstanceSnapshots", "List an instance's snapshots", None,              [SnapshotView]),
    Operation("GET",    "/local/snapshots",                                          snapshots.index,         ORG,       "listSnapshots",         "List all snapshots",          None,               [SnapshotView]),
    Operation("GET",    "/local/snapshots/{snapshot_id}",                            snapshots.show,          ORG,       "getSnapshot",           "Show a snapshot",             None,               SnapshotView),
    Operation("DELETE", "/local/snapshots/{snapshot_id}",                            snapshots.delete,        ORG,       "deleteSnapshot",        "Remove a snapshot",           None,               None, 204, is_audited=True),
    Operation("POST",   "/local/snapshots/{snapshot_id}/fork",                       snapshots.fork_snapshot, ORG,       "forkSnapshot",          "Make an instance of a snapshot", Fork,            InstanceView, 201, (402,)),
    Operation("POST",   "/local/instances/{instance_id}/fork",                       snapshots.fork,          ORG,       "forkInstance",          "Fork an instance",            Fork,               InstanceView, 201, (400, 402, 409, 502)),
    Operation("POST",   "/local/instances/{instance_id}/restore",                    snapshots.restore,       ORG,       "restoreInstance",       "Make an instance what it was", Restoration,       InstanceView, 200, (409,), is_audited=True),
    Operation("GET",    "/local/instances/{instance_id}/export",                     snapshots.export,        ORG,       "exportInstance",        "Export an instance",          None,               "application/octet-stream", 200, (400, 409, 502)),
)
# fmt: on


def routes(operations: Iterable[Operation] = OPERATIONS) -> list[Route]:
    """Starlette's routes for the table, one a path; each handler is guarded as its row says."""
    paths: dict[str, dict[str, Handler]] = {}
    audited: dict[str, set[str]] = {}
    for each in operations:
        if each.is_audited:
            audited.setdefault(each.path, set()).add(each.method)
        guarded_handler = guarded(each.handler, each.access, faulty(each))
        paths.setdefault(each.path, {})[each.method] = guarded_handler
    # Starlette looks through them one by one, and this one is asked for more than all others.
    in_order = sorted(paths, key=lambda path: path != POLLED)
    # With a route for each method, a refusal would name that of the path's first one alone.
    return [path_route(path, paths[path], audited.get(path, ())) for path in in_order]


def path_route(path: str, handlers: Mapping[str, Handler], audited: Collection[str]) -> Route:
    # Of this one, other methods would be those of an instance that is called so.
    methods = None if path == IMPORT else list(handlers)
    made = Route(path, _Endpoint(handlers, audited), methods=methods)
    # A name may have lines, and a path that ends with the end of one is another path.
    exactly = made.path_regex.pattern.removesuffix("$") + r"\Z"
    made.path_regex = re.compile(exactly, re.DOTALL)
    return made


class _Endpoint:
    """The handlers of a path; what they raise is rendered where everything is, and nowhere else."""

    def __init__(self, handlers: Mapping[str, Handler], audited: Collection[str] = ()) -> None:
        self._handlers = handlers
        self.audited = audited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        # Starlette lets HEAD in wherever GET is.
        method = "GET" if request.method == "HEAD" else request.method
        if method not in self._handlers:
            raise HTTPException(405, headers={"Allow": ", ".join(self._handlers)})
        response = await self._handlers[method](request)
        await response(scope, receive, send)
