"""Scheduled jobs and their runs: OpenClaw's `cron.*` calls as neutral shapes, and back (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.untrusted_json import message_of, moment_of, object_at, object_of, text_of
from chowder_local.openclaw.config.agent_config import merged
from chowder_local.openclaw.session_keys import MAIN_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

_AGENT = "agent:main:"
_IN_SESSION = "session:"
_ISOLATED = "isolated"
_HEARTBEAT = "heartbeat"
_FORCED = "manual:"
_LONGEST_MS = 8.64e15
"""The last moment that OpenClaw's dates have."""
_SHOWN = {"id", "name", "enabled"}
_OUTCOMES = {"ok": "ok", "error": "failed", "skipped": "skipped"}
_DECLARED = "declarationKey"
PLACEHOLDER: Mapping[str, Any] = {
    _DECLARED: "chowder-local:clock",
    "name": "clock",
    "enabled": False,
    "schedule": {"kind": "every", "everyMs": 31_536_000_000},
    "sessionTarget": "isolated",
    "wakeMode": "now",
    "delivery": {"mode": "none"},
    "payload": {"kind": "agentTurn", "message": "none"},
}
"""The job of a moment that `scheduler.rearm` makes; a server that is killed meanwhile leaves it."""
_PLACEHOLDER_OF_0_2 = {name: each for name, each in PLACEHOLDER.items() if name != _DECLARED}


class JobKind(StrEnum):
    """Whose job it is: somebody's, OpenClaw's own upkeep, or its heartbeat."""

    USER = "user"
    SYSTEM = "system"
    HEARTBEAT = "heartbeat"


@dataclass(frozen=True)
class Schedule:
    """When a job is due; of the other members that of its `kind` is set."""

    kind: str
    """`at`, `every` or `cron`; or what else OpenClaw has, such as `on-exit`."""
    at: datetime | None = None
    every_s: float | None = None
    cron: str | None = None
    timezone: str | None = None


@dataclass(frozen=True)
class Delivery:
    """Where the answer of a run goes: a URL, or somebody in a messenger."""

    url: str | None = None
    channel: str | None = None
    to: str | None = None


@dataclass(frozen=True)
class JobDefinition:
    """A job to create. `session` is OpenClaw's key; None gives each run a session of its own."""

    name: str
    schedule: Schedule
    message: str
    session_key: str | None = None
    openclaw_model: str | None = None
    deliver: Delivery | None = None
    is_enabled: bool = True


@dataclass(frozen=True)
class LastRun:
    """The latest run of a job."""

    at: datetime
    outcome: str | None
    error: str | None
    took_s: float | None


@dataclass(frozen=True)
class Job:
    """A job as OpenClaw has it; `openclaw` is the rest, by OpenClaw's own names."""

    id: str
    name: str
    kind: JobKind
    schedule: Schedule
    message: str | None
    session_key: str | None
    openclaw_model: str | None
    deliver: Delivery | None
    is_enabled: bool
    next_run_at: datetime | None
    running_since: datetime | None
    last_run: LastRun | None
    openclaw: Mapping[str, Any]

    @property
    def is_watching(self) -> bool:
        """Whether it waits for a program rather than for a time."""
        return self.schedule.kind not in {"at", "every", "cron"}


@dataclass(frozen=True)
class JobRun:
    """A run of a job that has ended."""

    id: str
    job_id: str
    job: str | None
    began_at: datetime
    ended_at: datetime
    outcome: str | None
    answer: str | None
    error: str | None
    session_key: str | None
    is_forced: bool
    input_tokens: int | None
    output_tokens: int | None
    openclaw: Mapping[str, Any]


def add_params(job: JobDefinition, openclaw: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of `cron.add`; `openclaw` is a merge patch of them."""
    payload = {"kind": "agentTurn", "message": job.message}
    if job.openclaw_model is not None:
        payload["model"] = job.openclaw_model
    params = {
        "name": job.name,
        "enabled": job.is_enabled,
        "schedule": _written_schedule(job.schedule),
        "sessionTarget": _written_session(job.session_key),
        "wakeMode": "now",
        "payload": payload,
        "delivery": _written_delivery(job.deliver),
    }
    if job.schedule.kind == "at":
        # OpenClaw would delete it after its run, and nobody could look at it then.
        params["deleteAfterRun"] = False
    return merged(params, openclaw)


def update_patch(
    job: Job, change: Mapping[str, Any], openclaw: Mapping[str, Any]
) -> dict[str, Any]:
    """The patch of `cron.update`: `change` has fields of `JobDefinition`."""
    patch: dict[str, Any] = {}
    kind = text_of(object_at(job.openclaw, "payload").get("kind"))
    payload: dict[str, Any] = {}
    for name, value in change.items():
        if name == "name":
            patch["name"] = value
        elif name == "is_enabled":
            patch["enabled"] = value
        elif name == "schedule":
            patch["schedule"] = _written_schedule(value)
        elif name == "session_key":
            patch["sessionTarget"] = _written_session(value)
        elif name == "deliver":
            patch["delivery"] = _written_delivery(value)
        elif name == "openclaw_model":
            payload["model"] = value
        elif name == "message":
            payload["text" if kind == "systemEvent" else "message"] = value
    if payload:
        patch["payload"] = {"kind": kind, **payload}
    return merged(patch, openclaw, keep_nulls=True)


_CARRIED = {
    "name", "displayName", "description", "enabled", "deleteAfterRun", "schedule", "pacing",
    "trigger", "sessionTarget", "wakeMode", "payload", "delivery", "failureAlert",
}  # fmt: skip


def carried_params(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of `cron.add` for a job like this one, in another agent."""
    return {name: value for name, value in raw.items() if name in _CARRIED}


def read_job(raw: Mapping[str, Any]) -> Job:
    """A job in an answer of the gateway."""
    payload, state = object_of(raw.get("payload")), object_of(raw.get("state"))
    delivery = object_of(raw.get("delivery"))
    last_at = moment_of(state.get("lastRunAtMs"))
    return Job(
        id=text_of(raw.get("id")),
        name=text_of(raw.get("name")),
        kind=_kind(raw, payload),
        schedule=_read_schedule(object_of(raw.get("schedule"))),
        message=text_of(payload.get("message")) or text_of(payload.get("text")) or None,
        session_key=_read_session(text_of(raw.get("sessionTarget"))),
        openclaw_model=text_of(payload.get("model")) or None,
        deliver=_read_delivery(delivery),
        is_enabled=raw.get("enabled") is True,
        next_run_at=moment_of(state.get("nextRunAtMs")) if raw.get("enabled") is True else None,
        running_since=moment_of(state.get("runningAtMs")),
        last_run=None
        if last_at is None
        else LastRun(
            last_at,
            _outcome(state.get("lastRunStatus")),
            message_of(state.get("lastError")) or None,
            _seconds(state.get("lastDurationMs")),
        ),
        openclaw={name: value for name, value in raw.items() if name not in _SHOWN},
    )


def read_jobs(answer: Mapping[str, Any]) -> list[Job]:
    """The jobs in an answer to `cron.list`, without placeholders."""
    listed = untrusted_json.objects_of(answer.get("jobs"))
    return [read_job(each) for each in listed if not is_placeholder(each)]


def is_placeholder(raw: Mapping[str, Any]) -> bool:
    """Whether a job is the server's own. Somebody's job may have the same name."""
    key = raw.get(_DECLARED)
    if key is not None:
        return bool(key == PLACEHOLDER[_DECLARED])
    # OpenClaw adds members to the schedule.
    return merged(raw, _PLACEHOLDER_OF_0_2) == raw


def is_not_found(refused: Exception) -> bool:
    """Whether OpenClaw refused a call because it has no such job."""
    return " not found: " in str(refused)


def read_runs(answer: Mapping[str, Any]) -> list[JobRun]:
    """The runs in an answer to `cron.runs`, latest first."""
    runs = map(_read_run, untrusted_json.objects_of(answer.get("entries")))
    return [each for each in runs if each is not None]


def _read_run(raw: Mapping[str, Any]) -> JobRun | None:
    ended_at = moment_of(raw.get("ts"))
    began_at = moment_of(raw.get("runAtMs")) or ended_at
    if ended_at is None or began_at is None:
        return None
    job_id, usage = text_of(raw.get("jobId")), object_of(raw.get("usage"))
    return JobRun(
        id=f"{job_id}:{round(began_at.timestamp() * 1000)}",
        job_id=job_id,
        job=text_of(raw.get("jobName")) or None,
        began_at=began_at,
        ended_at=ended_at,
        outcome=_outcome(raw.get("status")),
        answer=text_of(raw.get("summary")) or None,
        error=message_of(raw.get("error")) or None,
        # That of an isolated run ends with the run's own id.
        session_key=text_of(raw.get("sessionKey")).partition(":run:")[0] or None,
        is_forced=text_of(raw.get("runId")).startswith(_FORCED),
        input_tokens=_count(usage.get("input_tokens")),
        output_tokens=_count(usage.get("output_tokens")),
        openclaw=raw,
    )


def _kind(raw: Mapping[str, Any], payload: Mapping[str, Any]) -> JobKind:
    if payload.get("kind") == _HEARTBEAT:
        return JobKind.HEARTBEAT
    # Jobs with this key are OpenClaw's own.
    return JobKind.SYSTEM if raw.get(_DECLARED) else JobKind.USER


def _written_schedule(schedule: Schedule) -> dict[str, Any]:
    if schedule.kind == "at" and schedule.at is not None:
        return {"kind": "at", "at": schedule.at.astimezone(UTC).isoformat(timespec="milliseconds")}
    if schedule.kind == "every" and schedule.every_s is not None:
        return {"kind": "every", "everyMs": round(schedule.every_s * 1000)}
    zone = {} if schedule.timezone is None else {"tz": schedule.timezone}
    # OpenClaw would put an hourly job off by up to five minutes.
    return {"kind": "cron", "expr": schedule.cron, **zone, "staggerMs": 0}


def _read_schedule(raw: Mapping[str, Any]) -> Schedule:
    at = None
    if raw.get("kind") == "at":
        try:
            at = datetime.fromisoformat(text_of(raw.get("at"))[:40])
        except ValueError:
            at = None
    return Schedule(
        kind=text_of(raw.get("kind")),
        at=at if at is None or at.tzinfo else at.replace(tzinfo=UTC),
        every_s=_seconds(raw.get("everyMs")),
        cron=text_of(raw.get("expr")) or None,
        timezone=text_of(raw.get("tz")) or None,
    )


def _written_session(key: str | None) -> str:
    return _ISOLATED if key is None else _IN_SESSION + key.removeprefix(_AGENT)


def _read_session(target: str) -> str | None:
    if target == "main":
        return MAIN_KEY
    if target.startswith(_IN_SESSION):
        return _AGENT + target.removeprefix(_IN_SESSION).removeprefix(_AGENT)
    return None


def _written_delivery(delivery: Delivery | None) -> dict[str, Any]:
    if delivery is None:
        # Otherwise a job without a messenger counts as failed.
        return {"mode": "none"}
    if delivery.url is not None:
        return {"mode": "webhook", "to": delivery.url}
    members = {"channel": delivery.channel, "to": delivery.to}
    return {"mode": "announce", **{name: each for name, each in members.items() if each}}


def _read_delivery(raw: Mapping[str, Any]) -> Delivery | None:
    to = text_of(raw.get("to")) or None
    if raw.get("mode") == "webhook":
        return Delivery(url=to)
    if raw.get("mode") == "announce":
        return Delivery(channel=text_of(raw.get("channel")) or None, to=to)
    return None


def _outcome(status: Any) -> str | None:
    return _OUTCOMES.get(text_of(status))


def _seconds(value: Any) -> float | None:
    return value / 1000 if isinstance(value, int | float) and 0 <= value <= _LONGEST_MS else None


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e15 else None
