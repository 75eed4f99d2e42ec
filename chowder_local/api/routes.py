"""The route table: every operation of the API, from which /openapi.json is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.api.access import Access
from chowder_local.api.endpoints import FormerEndpoint, OperationsEndpoint
from chowder_local.api.handlers import (
    accounts,
    activity,
    agent_contents,
    faults_and_replies,
    history,
    instances,
    messages,
    responses,
    server,
    snapshots,
)
from chowder_local.api.operations import MESSAGE_BODY_BYTES, Operation
from chowder_local.api.schemas.accounts import (
    CheckoutCreation,
    IssuedKeyView,
    KeyCreation,
    KeyDetailsView,
    KeyView,
    LinkView,
    LocalOrganizationChange,
    LocalOrganizationView,
    OrganizationChange,
    OrganizationView,
    Signup,
    SignupView,
    SubscriptionView,
    UsageQuery,
    UsageReportView,
)
from chowder_local.api.schemas.activity import (
    ActivityView,
    CancelledView,
    CompactionView,
    IdleWait,
    SessionRewind,
)
from chowder_local.api.schemas.agent_contents import (
    ChannelConnecting,
    ChannelInfoView,
    ChannelStatusView,
    ChannelView,
    ConnectionView,
    FileQuery,
    FileUpload,
    FileView,
    FileWriting,
    FolderQuery,
    FolderView,
    Pairing,
    PairingRequestView,
    PairingView,
    SkillChange,
    SkillDetailsView,
    SkillInstallation,
    SkillInstallationView,
    SkillQuery,
    SkillView,
)
from chowder_local.api.schemas.faults_and_replies import (
    FaultCreation,
    FaultView,
    RepliesView,
    ReplyScriptChange,
    ResetView,
)
from chowder_local.api.schemas.history import (
    KeyedTranscriptQuery,
    ModelCallDetailsView,
    ModelCallQuery,
    ModelCallView,
    RecordingPlayback,
    RecordingQuery,
    RecordingView,
    RunFileQuery,
    SessionsView,
    TraceDetailsView,
    TraceQuery,
    TraceView,
    TranscriptQuery,
    TranscriptView,
)
from chowder_local.api.schemas.instances import (
    Fork,
    GatewayView,
    ImportQuery,
    InstanceChange,
    InstanceCreation,
    InstanceStatusView,
    InstanceView,
    LocalInstanceChange,
    LocalInstanceView,
    LogQuery,
    Restoration,
    SnapshotCreation,
    SnapshotView,
    Upgrade,
    UpgradeView,
)
from chowder_local.api.schemas.messages import MessagesQuery, SentMessagesView
from chowder_local.api.schemas.responses import (
    Message,
    ModelsView,
    ResponseStreamEvent,
    ResponseView,
)
from chowder_local.api.schemas.server import HealthView, ReadyView, ServerEvent
from chowder_local.http.endpoints import path_route
from chowder_local.http.middleware import OFFLINE_PROVIDERS_HEADER, QUEUE_POSITION_HEADER
from chowder_local.relay.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.routing import Route

ANYONE, ANY_KEY, ORG = Access.ANYONE, Access.ANY_KEY, Access.ORGANIZATION
READ, INTERACT, CONFIGURE = Access.READ, Access.INTERACT, Access.CONFIGURE
FILES, CHANNELS = Access.FILES, Access.CHANNELS


POLLED = "/v1/instances/{instance_id}/status"
IMPORT = "/local/instances/import"

# fmt: off
OPERATIONS: tuple[Operation, ...] = (
    Operation("POST",   "/v1/organization/signup",                                              accounts.sign_up,                    ANYONE,    "signUp",                "Sign up",                        Signup,              SignupView, 201, python="signup"),
    Operation("GET",    "/v1/organization",                                                     accounts.get_organization,           ORG,       "getOrganization",       "Show the organization",          None,                OrganizationView, headers=(OFFLINE_PROVIDERS_HEADER,)),
    Operation("PATCH",  "/v1/organization",                                                     accounts.update_organization,        ORG,       "updateOrganization",    "Change the organization",        OrganizationChange,  OrganizationView, is_audited=True, python="rename_organization"),
    Operation("POST",   "/v1/instances",                                                        instances.create_instance,           ORG,       "createInstance",        "Create an instance",             InstanceCreation,    InstanceView, 201, (400, 402), tool="create_instance"),
    Operation("GET",    "/v1/instances",                                                        instances.list_instances,            ANY_KEY,   "listInstances",         "List instances",                 None,                [InstanceView], tool="list_instances"),
    Operation("GET",    "/v1/instances/{instance_id}",                                          instances.get_instance,              READ,      "getInstance",           "Show an instance",               None,                InstanceView, tool="get_instance"),
    Operation("PATCH",  "/v1/instances/{instance_id}",                                          instances.update_instance,           CONFIGURE, "updateInstance",        "Change an instance",             InstanceChange,      InstanceView, 200, (400, 409, 502), python="configure", tool="configure_instance"),
    Operation("DELETE", "/v1/instances/{instance_id}",                                          instances.delete_instance,           ORG,       "deleteInstance",        "Delete an instance",             None,                None, 204, (502,), is_audited=True, python="delete", tool="delete_instance"),
    Operation("GET",    "/v1/instances/{instance_id}/status",                                   instances.get_instance_status,       READ,      "getInstanceStatus",     "Show an instance's status",      None,                InstanceStatusView, headers=(QUEUE_POSITION_HEADER,), python="status"),
    Operation("POST",   "/v1/instances/{instance_id}/stop",                                     instances.stop_instance,             ORG,       "stopInstance",          "Stop an instance",               None,                InstanceView, 200, (409, 502), python="stop", tool="stop_instance"),
    Operation("POST",   "/v1/instances/{instance_id}/start",                                    instances.start_instance,            ORG,       "startInstance",         "Start an instance",              None,                InstanceView, 200, (409, 502), python="start", tool="start_instance"),
    Operation("POST",   "/v1/instances/{instance_id}/responses",                                responses.create_response,           INTERACT,  "createResponse",        "Send a message",                 Message,             ResponseView, 200, (400, 402, 409, 502), events=ResponseStreamEvent, python="respond", max_body_bytes=MESSAGE_BODY_BYTES),
    Operation("POST",   "/v1/instances/{instance_id}/session/{session_id:path}/responses",      responses.create_response,           INTERACT,  "createSessionResponse", "Send a message to a session",    Message,             ResponseView, 200, (400, 402, 409, 502), events=ResponseStreamEvent, python="respond", max_body_bytes=MESSAGE_BODY_BYTES),
    Operation("GET",    "/v1/instances/{instance_id}/models",                                   responses.list_models,               INTERACT,  "listModels",            "List models",                    None,                ModelsView),
    Operation("GET",    "/v1/instances/{instance_id}/channels",                                 agent_contents.list_channels,        CHANNELS,  "listChannels",          "List channels",                  None,                [ChannelView], 200, (409, 502)),
    Operation("GET",    "/v1/instances/{instance_id}/channels/{channel}",                       agent_contents.get_channel,          ANYONE,    "getChannel",            "Show a channel's fields",        None,                ChannelInfoView, 200, (404,)),
    Operation("POST",   "/v1/instances/{instance_id}/channels/{channel}/connect",               agent_contents.connect_channel,      CHANNELS,  "connectChannel",        "Connect a channel",              ChannelConnecting,   ConnectionView, 200, (400, 409, 502)),
    Operation("GET",    "/v1/instances/{instance_id}/channels/{channel}/status",                agent_contents.get_channel_status,   CHANNELS,  "getChannelStatus",      "Show a channel's status",        None,                ChannelStatusView, 200, (409, 502)),
    Operation("POST",   "/v1/instances/{instance_id}/channels/{channel}/pair",                  agent_contents.pair_channel,         CHANNELS,  "pairChannel",           "Approve a sender",               Pairing,             PairingView, 200, (400, 409, 502)),
    Operation("POST",   "/v1/instances/{instance_id}/channels/{channel}/disconnect",            agent_contents.disconnect_channel,   CHANNELS,  "disconnectChannel",     "Disconnect a channel",           None,                None, 204, (409, 502)),
    Operation("GET",    "/v1/instances/{instance_id}/files",                                    agent_contents.list_files,           FILES,     "listFiles",             "List a folder",                  None,                FolderView, 200, (400, 409, 502), FolderQuery, tool="list_files"),
    Operation("GET",    "/v1/instances/{instance_id}/files/content",                            agent_contents.read_file,            FILES,     "readFile",              "Read a text file",               None,                FileView, 200, (400, 409, 413, 502), FileQuery, tool="read_file"),
    Operation("PUT",    "/v1/instances/{instance_id}/files/content",                            agent_contents.write_file,           FILES,     "writeFile",             "Write a text file",              FileWriting,         None, 204, (400, 409, 502), tool="write_file", max_body_bytes=None),
    Operation("POST",   "/v1/instances/{instance_id}/files/upload",                             agent_contents.upload_file,          FILES,     "uploadFile",            "Upload a file",                  FileUpload,          None, 204, (400, 409, 502), body_type="multipart/form-data", python="upload"),
    Operation("GET",    "/v1/instances/{instance_id}/files/download",                           agent_contents.download_file,        FILES,     "downloadFile",          "Download a file",                None,                "application/octet-stream", 200, (400, 409, 502), FileQuery, python="download"),
    Operation("GET",    "/v1/instances/{instance_id}/skills",                                   agent_contents.list_skills,          CONFIGURE, "listSkills",            "List skills",                    None,                [SkillView], 200, (409, 502), SkillQuery),
    Operation("POST",   "/v1/instances/{instance_id}/skills/install",                           agent_contents.install_skill,        CONFIGURE, "installSkill",          "Install a skill",                SkillInstallation,   SkillInstallationView, 200, (400, 409, 502)),
    Operation("GET",    "/v1/instances/{instance_id}/skills/{skill_name:path}",                 agent_contents.get_skill,            CONFIGURE, "getSkill",              "Show a skill",                   None,                SkillDetailsView, 200, (409, 502)),
    Operation("PATCH",  "/v1/instances/{instance_id}/skills/{skill_name:path}",                 agent_contents.update_skill,         CONFIGURE, "updateSkill",           "Change a skill",                 SkillChange,         None, 204, (400, 409, 502), python="change_skill"),
    Operation("POST",   "/v1/keys",                                                             accounts.create_key,                 ORG,       "createKey",             "Create a key",                   KeyCreation,         IssuedKeyView, 201, (404,), is_audited=True),
    Operation("GET",    "/v1/keys",                                                             accounts.list_keys,                  ORG,       "listKeys",              "List keys",                      None,                [KeyView]),
    Operation("GET",    "/v1/keys/{key_id}",                                                    accounts.get_key,                    ORG,       "getKey",                "Show a key",                     None,                KeyDetailsView),
    Operation("DELETE", "/v1/keys/{key_id}",                                                    accounts.revoke_key,                 ORG,       "revokeKey",             "Revoke a key",                   None,                None, 204, is_audited=True),
    Operation("GET",    "/v1/subscription",                                                     accounts.get_subscription,           ORG,       "getSubscription",       "Show the subscription",          None,                SubscriptionView),
    Operation("POST",   "/v1/subscription/checkout",                                            accounts.create_checkout,            ORG,       "createCheckout",        "Create a checkout link",         CheckoutCreation,    LinkView),
    Operation("POST",   "/v1/subscription/portal",                                              accounts.create_portal,              ORG,       "createPortal",          "Create a portal link",           None,                LinkView),
    Operation("GET",    "/local/health",                                                        server.get_health,                   ANYONE,    "getHealth",             "Show the server's health",       None,                HealthView),
    Operation("GET",    "/local/ready",                                                         server.get_readiness,                ANYONE,    "getReadiness",          "Check readiness",                None,                ReadyView, python="is_ready"),
    Operation("GET",    "/local/metrics",                                                       server.get_metrics,                  ANYONE,    "getMetrics",            "Read the metrics",               None,                "text/plain"),
    Operation("GET",    "/local/events",                                                        server.stream_events,                ORG,       "streamEvents",          "Stream events",                  events=ServerEvent, python="events"),
    Operation("GET",    "/local/instances/{instance_id}/events",                                server.stream_instance_events,       ORG,       "streamInstanceEvents",  "Stream an instance's events",    events=ServerEvent, python="events"),
    Operation("POST",   "/local/instances/import",                                              snapshots.import_instance,           ORG,       "importInstance",        "Import an instance",             "application/octet-stream",InstanceView, 201, (400, 402, 413), ImportQuery),
    Operation("GET",    "/local/instances/{instance_id}",                                       instances.get_instance_settings,     ORG,       "getInstanceSettings",   "Show an instance's settings",    None,                LocalInstanceView),
    Operation("PATCH",  "/local/instances/{instance_id}",                                       instances.set_instance_settings,     ORG,       "setInstanceSettings",   "Set an instance's settings",     LocalInstanceChange, LocalInstanceView, 200, (400, 409), is_audited=True, python="set_egress"),
    Operation("GET",    "/local/instances/{instance_id}/logs",                                  instances.read_logs,                 ORG,       "readLogs",              "Read an instance's log",         None,                "text/plain", 200, (409, 502), LogQuery, python="logs", tool="read_log"),
    Operation("GET",    "/local/instances/{instance_id}/gateway",                               instances.get_gateway,               ORG,       "getGateway",            "Show an instance's gateway",     None,                GatewayView, 200, (409,)),
    Operation("GET",    "/local/instances/{instance_id}/channels/{channel}/pairings",           agent_contents.list_pairings,        CHANNELS,  "listPairings",          "List who waits for approval",    None,                [PairingRequestView], 200, (400, 404, 409, 502), python="channel_pairings"),
    Operation("POST",   "/local/instances/{instance_id}/channels/{channel}/pairings/{code}/approve", agent_contents.approve_pairing,   CHANNELS,  "approvePairing",        "Approve who waits",              None,                None, 204, (400, 404, 409, 502), tool="approve_pairing"),
    Operation("GET",    "/local/instances/{instance_id}/model-calls",                           history.list_model_calls,            ORG,       "listModelCalls",        "List model calls",               None,                [ModelCallView], query=ModelCallQuery, tool="list_model_calls", former_path="/local/instances/{instance_id}/exchanges"),
    Operation("GET",    "/local/model-calls/{model_call_id}",                                   history.get_model_call,              ORG,       "getModelCall",          "Show a model call",              None,                ModelCallDetailsView, 200, (404,), tool="get_model_call", former_path="/local/exchanges/{model_call_id}"),
    Operation("GET",    "/local/instances/{instance_id}/traces",                                history.list_traces,                 ORG,       "listTraces",            "List traces",                    None,                [TraceView], query=TraceQuery, tool="list_traces"),
    Operation("GET",    "/local/instances/{instance_id}/traces/{response_id}",                  history.get_trace,                   ORG,       "getTrace",              "Show a trace",                   None,                TraceDetailsView, 200, (404,), tool="get_trace"),
    Operation("GET",    "/local/runs/{run:path}",                                               history.get_run,                     ORG,       "getRun",                "Get a run",                      None,                Run, 200, (404,), RunFileQuery),
    Operation("GET",    "/local/instances/{instance_id}/messages",                              messages.list_messages,              ORG,       "listMessages",          "List unasked messages",          None,                SentMessagesView, query=MessagesQuery, tool="list_messages"),
    Operation("GET",    "/local/replies",                                                       faults_and_replies.get_replies,      ORG,       "getReplies",            "Show scripted replies",          None,                RepliesView, tool="get_replies"),
    Operation("PUT",    "/local/replies",                                                       faults_and_replies.set_replies,      ORG,       "setReplies",            "Set scripted replies",           ReplyScriptChange,   RepliesView, tool="set_replies", max_body_bytes=None),
    Operation("DELETE", "/local/replies",                                                       faults_and_replies.delete_replies,   ORG,       "deleteReplies",         "Remove scripted replies",        None,                None, 204, python="clear_replies", tool="clear_replies"),
    Operation("GET",    "/local/instances/{instance_id}/replies",                               faults_and_replies.get_replies,      ORG,       "getInstanceReplies",    "Show an instance's replies",     None,                RepliesView, python="replies"),
    Operation("PUT",    "/local/instances/{instance_id}/replies",                               faults_and_replies.set_replies,      ORG,       "setInstanceReplies",    "Set an instance's replies",      ReplyScriptChange,   RepliesView, python="set_replies", max_body_bytes=None),
    Operation("DELETE", "/local/instances/{instance_id}/replies",                               faults_and_replies.delete_replies,   ORG,       "deleteInstanceReplies", "Remove an instance's replies",   None,                None, 204, python="clear_replies"),
    Operation("GET",    "/local/instances/{instance_id}/recording",                             faults_and_replies.get_recording,    ORG,       "getRecording",          "Get a recording",                None,                RecordingView, query=RecordingQuery),
    Operation("PUT",    "/local/instances/{instance_id}/recording",                             faults_and_replies.set_recording,    ORG,       "setRecording",          "Replay a recording",             RecordingPlayback,   RecordingView, python="replay", max_body_bytes=None),
    Operation("DELETE", "/local/instances/{instance_id}/recording",                             faults_and_replies.delete_recording, ORG,       "deleteRecording",       "End a replay",                   None,                None, 204, python="end_replay"),
    Operation("POST",   "/local/faults",                                                        faults_and_replies.create_fault,     ORG,       "createFault",           "Set a fault",                    FaultCreation,       FaultView, 201, (404, 409), python="add_fault", tool="set_fault"),
    Operation("GET",    "/local/faults",                                                        faults_and_replies.list_faults,      ORG,       "listFaults",            "List faults",                    None,                [FaultView], tool="list_faults"),
    Operation("DELETE", "/local/faults",                                                        faults_and_replies.delete_faults,    ORG,       "deleteFaults",          "Remove all faults",              None,                None, 204, python="clear_faults", tool="clear_faults"),
    Operation("DELETE", "/local/faults/{fault_id}",                                             faults_and_replies.delete_fault,     ORG,       "deleteFault",           "Remove a fault",                 None,                None, 204, python="clear_faults"),
    Operation("POST",   "/local/reset",                                                         instances.reset_organization,        ORG,       "resetOrganization",     "Reset the organization",         None,                ResetView, 200, (502,), is_audited=True, python="reset"),
    Operation("GET",    "/local/instances/{instance_id}/sessions",                              history.list_sessions,               ORG,       "listSessions",          "List sessions",                  None,                SessionsView, 200, (409, 502), tool="list_sessions"),
    Operation("GET",    "/local/instances/{instance_id}/transcript",                            history.read_transcript,             ORG,       "readTranscript",        "Read a transcript",              None,                TranscriptView, 200, (409, 502), KeyedTranscriptQuery, python="transcript", tool="read_transcript"),
    Operation("GET",    "/local/instances/{instance_id}/sessions/{session_id:path}/transcript", history.read_session_transcript,     ORG,       "readSessionTranscript", "Read a session's transcript",    None,                TranscriptView, 200, (409, 502), TranscriptQuery, python="transcript", tool="read_session_transcript"),
    Operation("POST",   "/local/instances/{instance_id}/sessions/{session_id:path}/reset",      activity.reset_session,              ORG,       "resetSession",          "Reset a session",                None,                None, 204, (409, 502), tool="reset_session"),
    Operation("POST",   "/local/instances/{instance_id}/sessions/{session_id:path}/rewind",     activity.rewind_session,             ORG,       "rewindSession",         "Set a session back",             SessionRewind,       None, 204, (404, 409, 502), tool="rewind_session"),
    Operation("POST",   "/local/instances/{instance_id}/sessions/{session_id:path}/compact",    activity.compact_session,            ORG,       "compactSession",        "Compact a session",              None,                CompactionView, 200, (404, 409, 502), tool="compact_session"),
    Operation("POST",   "/local/instances/{instance_id}/sessions/{session_id:path}/abort",      activity.abort_session,              ORG,       "abortSession",          "Abort a session's turns",        None,                CancelledView, 200, (409, 502), tool="abort_session"),
    Operation("DELETE", "/local/instances/{instance_id}/sessions/{session_id:path}",            activity.delete_session,             ORG,       "deleteSession",         "Delete a session",               None,                None, 204, (404, 409, 502), is_audited=True, tool="delete_session"),
    Operation("GET",    "/local/instances/{instance_id}/activity",                              activity.get_activity,               ORG,       "getActivity",           "Show what an agent is doing",    None,                ActivityView, tool="get_activity"),
    Operation("DELETE", "/local/instances/{instance_id}/activity",                              activity.cancel_activity,            ORG,       "cancelActivity",        "End all that an agent is doing", None,                CancelledView, 200, (502,), tool="cancel_activity"),
    Operation("DELETE", "/local/instances/{instance_id}/activity/{item_id}",                    activity.cancel_activity_item,       ORG,       "cancelActivityItem",    "End a turn or a task",           None,                CancelledView, 200, (404, 502), tool="cancel_activity_item"),
    Operation("POST",   "/local/instances/{instance_id}/wait",                                  activity.wait_for_instance,          ORG,       "waitForInstance",       "Wait until an agent is idle",    IdleWait,            ActivityView, python="wait_until_idle", tool="wait_for_instance"),
    Operation("GET",    "/local/organization",                                                  accounts.get_organization_settings,  ORG,       "getOrganizationSettings", "Show the organization's settings", None,            LocalOrganizationView),
    Operation("PATCH",  "/local/organization",                                                  accounts.set_organization_settings,  ORG,       "setOrganizationSettings", "Set the organization's settings", LocalOrganizationChange, LocalOrganizationView, is_audited=True),
    Operation("GET",    "/local/instances/{instance_id}/usage",                                 history.get_instance_usage,          ORG,       "getInstanceUsage",      "Show an instance's usage",       None,                UsageReportView, 200, (), UsageQuery, python="usage"),
    Operation("GET",    "/local/usage",                                                         history.get_usage,                   ORG,       "getUsage",              "Show the organization's usage",  None,                UsageReportView, 200, (), UsageQuery, tool="get_usage"),
    Operation("POST",   "/local/instances/{instance_id}/snapshots",                             snapshots.create_snapshot,           ORG,       "createSnapshot",        "Take a snapshot",                SnapshotCreation,    SnapshotView, 201, (400, 409, 502), python="take_snapshot", tool="take_snapshot"),
    Operation("GET",    "/local/instances/{instance_id}/snapshots",                             snapshots.list_instance_snapshots,   ORG,       "listInstanceSnapshots", "List an instance's snapshots",   None,                [SnapshotView], python="snapshots"),
    Operation("GET",    "/local/snapshots",                                                     snapshots.list_snapshots,            ORG,       "listSnapshots",         "List all snapshots",             None,                [SnapshotView], tool="list_snapshots"),
    Operation("GET",    "/local/snapshots/{snapshot_id}",                                       snapshots.get_snapshot,              ORG,       "getSnapshot",           "Show a snapshot",                None,                SnapshotView),
    Operation("DELETE", "/local/snapshots/{snapshot_id}",                                       snapshots.delete_snapshot,           ORG,       "deleteSnapshot",        "Remove a snapshot",              None,                None, 204, is_audited=True, tool="delete_snapshot"),
    Operation("POST",   "/local/snapshots/{snapshot_id}/fork",                                  snapshots.fork_snapshot,             ORG,       "forkSnapshot",          "Fork a snapshot",                Fork,                InstanceView, 201, (402,)),
    Operation("POST",   "/local/instances/{instance_id}/fork",                                  snapshots.fork_instance,             ORG,       "forkInstance",          "Fork an instance",               Fork,                InstanceView, 201, (400, 402, 409, 502), python="fork", tool="fork_instance"),
    Operation("POST",   "/local/instances/{instance_id}/restore",                               snapshots.restore_instance,          ORG,       "restoreInstance",       "Restore an instance",            Restoration,         InstanceView, 200, (400, 409), is_audited=True, python="restore", tool="restore_snapshot"),
    Operation("POST",   "/local/instances/{instance_id}/upgrade",                               snapshots.upgrade_instance,          ORG,       "upgradeInstance",       "Upgrade an instance's OpenClaw", Upgrade,             UpgradeView, 200, (400, 409, 502), is_audited=True, python="upgrade"),
    Operation("GET",    "/local/instances/{instance_id}/export",                                snapshots.export_instance,           ORG,       "exportInstance",        "Export an instance",             None,                "application/octet-stream", 200, (400, 409, 502), python="export"),
)
# fmt: on


def routes(operations: Iterable[Operation] = OPERATIONS) -> list[Route]:
    """Starlette's routes for the table, one for each path."""
    by_path: dict[str, list[Operation]] = {}
    for each in operations:
        by_path.setdefault(each.path, []).append(each)
    # Starlette tries the routes in order, and this one gets the most requests.
    in_order = sorted(by_path, key=lambda path: path != POLLED)
    return [
        # Other methods on IMPORT would match the route of an instance with the id "import".
        *(
            path_route(path, OperationsEndpoint(by_path[path]), takes_any_method=path == IMPORT)
            for path in in_order
        ),
        *(
            path_route(each.former_path, FormerEndpoint(each))
            for each in operations
            if each.former_path is not None
        ),
    ]
