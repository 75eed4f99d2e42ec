"""Describes each event: when it is published, and its own members."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chowder_local.core.events import EventType

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class EventDescription:
    """When an event is published, and the meaning of each of its members."""

    when: str
    members: Mapping[str, str] = field(default_factory=dict)


_BUDGET = {
    "per": "`day`, `month` or `total`.",
    "usd": "Its USD, or null.",
    "tokens": "Its tokens, or null.",
    "model_calls": "Its model calls, or null.",
}
_APPROVAL = {
    "approval_id": "Id of the approval.",
    "command": "The first 500 characters of the command.",
}
_SANDBOX = {"sandbox_id": "Id of the sandbox."}
_SNAPSHOT = {"snapshot_id": "Id of the snapshot."}
_JOB = {"job_id": "Id of the job.", "job": "Name of the job."}
_CUT = "cut at 1,000 characters"
_WATCHED = "Only while somebody follows the events."
_TURN = {
    "trace_id": "Id of the turn's trace.",
    "kind": "What began the turn: `message`, `channel`, `job`, `heartbeat`, `subagent`, `hook` or "
    "`other`.",
    "session_key": "OpenClaw's key of the session, or null.",
    "job": "Name of the job, or null; not for a client's message.",
    "channel": "Name of the messenger, or null; not for a client's message.",
}
_TOOL = {"tool": "Name of the tool.", "call_id": "Id of the tool call."}
_TASK = {
    "task_id": "OpenClaw's id of the task.",
    "task_kind": "`subagent`, `cron` for the run of a job, or what else OpenClaw has.",
    "title": "What it is about.",
    "session_key": "The session that asked for it, or null.",
    "own_session_key": "The session in which it runs, or null.",
}
_BEGAN_AT = "When the run has begun, on the agent's clock."

_NOW = {"now": "The agent's time."}
CATALOGUE: Mapping[EventType, EventDescription] = {
    EventType.INSTANCE_STATUS: EventDescription(
        "An instance is created, or its status or error message changes.",
        {
            "status": "The new status.",
            "before": "The status before; null for a new instance.",
            "error_message": "The instance's error message, or null.",
        },
    ),
    EventType.BOOT_QUEUED: EventDescription("A boot waits for its turn in the boot queue."),
    EventType.BOOT_BEGUN: EventDescription("A boot leaves the boot queue and begins."),
    EventType.BOOT_ENDED: EventDescription(
        "A boot ends.",
        {
            "outcome": "`ready`, `failed`, or `abandoned` if the instance was stopped or deleted.",
            "took_s": "Seconds that the boot took, without its wait in the queue.",
        },
    ),
    EventType.WARM_SANDBOX_MADE: EventDescription("A warm sandbox may be claimed.", _SANDBOX),
    EventType.WARM_SANDBOX_CLAIMED: EventDescription(
        "An instance of the organization claims a warm sandbox.", _SANDBOX
    ),
    EventType.WARM_SANDBOX_DISCARDED: EventDescription(
        "The server removes a warm sandbox, because it does not fit, exceeds the size of the pool, "
        "or uses memory that an instance needs.",
        _SANDBOX,
    ),
    EventType.SANDBOX_RELEASED: EventDescription(
        "The server removes a stopped agent's sandbox from memory.", _SANDBOX
    ),
    EventType.SANDBOX_RESUMED: EventDescription(
        "A frozen sandbox resumes, because its instance is started.", _SANDBOX
    ),
    EventType.SANDBOX_RECONCILED: EventDescription(
        "An instance's status and its sandbox's state do not agree, and the server corrects it.",
        _SANDBOX
        | {
            "status": "Status of the instance.",
            "state": "State of the sandbox: created, running, paused, exited or missing.",
        },
    ),
    EventType.SANDBOX_REMOVED: EventDescription(
        "The server removes a sandbox that belongs to no instance.", _SANDBOX
    ),
    EventType.ENGINE_LOST: EventDescription("The container engine stops answering."),
    EventType.ENGINE_BACK: EventDescription("The container engine answers again."),
    EventType.MODEL_FAILED: EventDescription(
        "A model call fails.",
        {
            "provider": "Name of the model provider.",
            "status": "HTTP status that the provider answered, or null.",
            "code": "Code of the error; the errors reference lists them.",
        },
    ),
    EventType.FAULT_APPLIED: EventDescription(
        "A fault is injected into a call or a new instance.",
        {
            "fault_id": "Id of the fault.",
            "fault": "Kind of the fault.",
            "left": "Calls into which the fault will still be injected.",
        },
    ),
    EventType.CALL_HELD: EventDescription(
        "A breakpoint holds a model call.", {"model_call_id": "Id of the model call."}
    ),
    EventType.CALL_RELEASED: EventDescription(
        "A held model call is held no more.",
        {
            "model_call_id": "Id of the model call.",
            "how": "`continued`, `edited`, `answered`, `failed`; `ended` if its time or the server "
            "ended; `left` if the agent left it.",
        },
    ),
    EventType.APPROVAL_REQUESTED: EventDescription(
        "A command of an agent waits for an approval.", _APPROVAL
    ),
    EventType.APPROVAL_RESOLVED: EventDescription(
        "A command does not wait any more.",
        _APPROVAL
        | {
            "decision": "`allow_once`, `allow_always` or `deny`; `expired` if nobody decided in "
            "time; `cancelled` if its turn has ended, or the agent was started again.",
        },
    ),
    EventType.BUDGET_SET: EventDescription(
        "A budget is set. Without an instance it is the organization's.", _BUDGET
    ),
    EventType.BUDGET_REMOVED: EventDescription("A budget is removed."),
    EventType.BUDGET_EXCEEDED: EventDescription(
        "A budget is spent, and refuses a model call for the first time in its period or since it "
        "was set.",
        _BUDGET | {"limit": "Name of the limit: `usd`, `tokens` or `model_calls`."},
    ),
    EventType.SNAPSHOT_MADE: EventDescription("A snapshot is complete.", _SNAPSHOT),
    EventType.SNAPSHOT_REMOVED: EventDescription("A snapshot is removed.", _SNAPSHOT),
    EventType.INSTANCE_FORKED: EventDescription(
        "A new instance is made from a snapshot, another instance, or an imported file.",
        _SNAPSHOT
        | {"of_instance_id": "Id of the instance that is forked; null for an imported file."},
    ),
    EventType.INSTANCE_RESTORED: EventDescription(
        "An instance is taken back to a snapshot.", _SNAPSHOT
    ),
    EventType.INSTANCE_RECOVERED: EventDescription(
        "An instance whose machine is away is taken back to its latest snapshot, on another one.",
        _SNAPSHOT
        | {
            "node": "Name of the machine that is away.",
            "copied_at": "Time of the snapshot, in UTC.",
            "messages": "Number of messages that were answered since. The agent hears them again "
            "before the next message of their session.",
            "sessions": "Names of sessions that these were in, at most 20.",
        },
    ),
    EventType.INSTANCE_HIBERNATED: EventDescription(
        "A running instance that nobody uses leaves memory; its status stays.", _SANDBOX
    ),
    EventType.INSTANCE_RESUMED: EventDescription(
        "A hibernated instance is in memory again, because it is used.", _SANDBOX
    ),
    EventType.CHANNEL_MESSAGE: EventDescription(
        "A person or the agent has said something in a channel of the local messenger.",
        {
            "channel": "Name of the channel.",
            "message_id": "Id of the message.",
            "author": "`person` or `agent`.",
            "message_kind": "`message`, `edit`, `deletion`, `reaction` or `typing`.",
        },
    ),
    EventType.CLOCK_SET: EventDescription("The clock of an agent is set.", _NOW),
    EventType.CLOCK_ADVANCED: EventDescription(
        "A part of an advance of an agent's clock is done: the jobs that were due have run.",
        _NOW | {"until": "Time to which it is moved on.", "runs": "Number of runs so far."},
    ),
    EventType.MESSAGE_RECEIVED: EventDescription(
        "Something is said to an agent: by a client, in a messenger, by a job, a webhook or a "
        "sub-agent.",
        _TURN | {"text": f"Its text, {_CUT}; null if it is unknown."},
    ),
    EventType.MESSAGE_SENT: EventDescription(
        "An agent answers a client or somebody in a messenger, or says something without being "
        "asked, such as a job's answer or a sub-agent's report.",
        _TURN
        | {
            "text": f"Its text, {_CUT}.",
            "response_id": "Id of a client's answer.",
            "number": "Number in the list of messages, if nobody has asked for it.",
        },
    ),
    EventType.TURN_BEGUN: EventDescription("A turn of an agent begins.", _TURN),
    EventType.TURN_ENDED: EventDescription(
        "A turn of an agent ends.",
        _TURN
        | {
            "outcome": "`answered`, `failed` or `cancelled`.",
            "error_message": "Why it has failed, or null.",
            "took_s": "Seconds that it took.",
            "model_calls": "Number of its model calls.",
        },
    ),
    EventType.TOOL_BEGUN: EventDescription(
        f"An agent runs a tool. {_WATCHED}",
        _TURN
        | _TOOL
        | {
            "model_call_id": "Id of the model call that asked for it.",
            "arguments": f"Its arguments as JSON, {_CUT}.",
        },
    ),
    EventType.TOOL_ENDED: EventDescription(
        f"A tool has ended. {_WATCHED}",
        _TURN
        | _TOOL
        | {
            "took_s": "Seconds until the next model call.",
            "result": f"What the model gets, {_CUT}; null if it gets nothing.",
        },
    ),
    EventType.TASK_BEGUN: EventDescription(
        f"OpenClaw begins a task, such as a sub-agent. {_WATCHED}", _TASK
    ),
    EventType.TASK_ENDED: EventDescription(
        f"A task ends. {_WATCHED}",
        _TASK
        | {
            "outcome": "`completed`, `failed`, `cancelled` or `timed_out`.",
            "error_message": "Why it has failed, or null.",
        },
    ),
    EventType.JOB_DUE: EventDescription(
        "A scheduled job of an agent falls due.",
        _JOB | {"due_at": "Its due time, on the agent's clock."},
    ),
    EventType.JOB_BEGAN: EventDescription(
        "A run of a job begins, because the job is due or the run is forced.",
        _JOB | {"began_at": _BEGAN_AT},
    ),
    EventType.JOB_ENDED: EventDescription(
        "A run of a job ends.",
        _JOB
        | {
            "run_id": "Id of the run in the list of the job's runs.",
            "began_at": _BEGAN_AT,
            "outcome": "`ok`, `failed` or `skipped`; null if OpenClaw names another.",
            "is_forced": "Whether a call forced the run.",
        },
    ),
    EventType.JOB_MISSED: EventDescription(
        "A job has not begun 30 s after its due time, because its agent was stopped or OpenClaw "
        "has skipped it. A run that comes later has its own events.",
        _JOB | {"due_at": "The due time that has passed, on the agent's clock."},
    ),
    EventType.WEBHOOK_RECEIVED: EventDescription(
        "An agent sends a webhook to its inbox.",
        {
            "number": "Number of the webhook, by which it is listed.",
            "method": "Its HTTP method.",
            "path": "Its path in the inbox.",
        },
    ),
    EventType.EVENTS_MISSED: EventDescription(
        "The first event of a stream whose `Last-Event-ID` is too old, or of an earlier run of the "
        "server: events before it are lost."
    ),
}
"""Descriptions in the order of EventType."""
