"""Jobs and their runs as OpenClaw 2026.9.6 has them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from chowder_local.openclaw.jobs import (
    PLACEHOLDER,
    Delivery,
    JobDefinition,
    JobKind,
    Schedule,
    add_params,
    read_job,
    read_jobs,
    read_runs,
    update_patch,
)

AT = datetime(2026, 12, 1, 9, tzinfo=UTC)
AT_MS = 1_796_115_600_000
SCHEDULES = [
    (Schedule("at", at=AT), {"kind": "at", "at": "2026-12-01T09:00:00.000+00:00"}),
    (Schedule("every", every_s=90.5), {"kind": "every", "everyMs": 90_500}),
    (
        Schedule("cron", cron="0 9 * * *", timezone="Europe/Berlin"),
        {"kind": "cron", "expr": "0 9 * * *", "tz": "Europe/Berlin", "staggerMs": 0},
    ),
]
RAW: dict[str, Any] = {
    "id": "j-1",
    "name": "report",
    "enabled": True,
    "schedule": {"kind": "every", "everyMs": 60_000},
    "sessionTarget": "isolated",
    "payload": {"kind": "agentTurn", "message": "It is nine"},
    "state": {"nextRunAtMs": AT_MS},
}


@pytest.mark.parametrize(("schedule", "written"), SCHEDULES)
def test_a_schedule_is_written_and_read(schedule: Schedule, written: dict[str, Any]) -> None:
    params = add_params(JobDefinition("report", schedule, "It is nine"), {})
    assert params["schedule"] == written
    assert read_job({**RAW, **params}).schedule == schedule


def test_a_job_has_defaults_under_which_it_runs_without_a_messenger_and_stays() -> None:
    params = add_params(JobDefinition("report", Schedule("at", at=AT), "It is nine"), {})
    assert params == {
        "name": "report",
        "enabled": True,
        "schedule": {"kind": "at", "at": "2026-12-01T09:00:00.000+00:00"},
        "sessionTarget": "isolated",
        "wakeMode": "now",
        "payload": {"kind": "agentTurn", "message": "It is nine"},
        "delivery": {"mode": "none"},
        "deleteAfterRun": False,
    }


def test_openclaws_own_members_come_last() -> None:
    job = JobDefinition("report", Schedule("at", at=AT), "It is nine")
    openclaw = {"deleteAfterRun": True, "payload": {"timeoutSeconds": 60}}
    params = add_params(job, openclaw)
    assert params["deleteAfterRun"] is True
    assert params["payload"] == {
        "kind": "agentTurn", "message": "It is nine", "timeoutSeconds": 60
    }  # fmt: skip


def test_a_change_has_only_what_changes() -> None:
    job = read_job({**RAW, "payload": {"kind": "systemEvent", "text": "Look"}})
    change = {"message": "Look again", "session_key": "agent:main:s-1", "deliver": None}
    assert update_patch(job, change, {"description": None}) == {
        "payload": {"kind": "systemEvent", "text": "Look again"},
        "sessionTarget": "session:s-1",
        "delivery": {"mode": "none"},
        "description": None,
    }


@pytest.mark.parametrize(
    ("delivery", "written"),
    [
        (Delivery(url="http://a.b/c"), {"mode": "webhook", "to": "http://a.b/c"}),
        (Delivery(channel="irc", to="1"), {"mode": "announce", "channel": "irc", "to": "1"}),
    ],
)
def test_a_delivery_is_written_and_read(delivery: Delivery, written: dict[str, Any]) -> None:
    job = JobDefinition("report", Schedule("at", at=AT), "It is nine", deliver=delivery)
    params = add_params(job, {})
    assert params["delivery"] == written
    assert read_job({**RAW, **params}).deliver == delivery


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({}, JobKind.USER),
        ({"declarationKey": "memory-core:dreaming"}, JobKind.SYSTEM),
        ({"declarationKey": "heartbeat:main", "payload": {"kind": "heartbeat"}}, JobKind.HEARTBEAT),
    ],
)
def test_a_job_is_of_a_kind(members: dict[str, Any], kind: JobKind) -> None:
    assert read_job({**RAW, **members}).kind is kind


def test_the_state_of_a_job_is_read() -> None:
    state = {
        "nextRunAtMs": AT_MS,
        "lastRunAtMs": AT_MS,
        "lastRunStatus": "error",
        "lastError": "no",
        "lastDurationMs": 1_500,
    }
    job = read_job({**RAW, "sessionTarget": "main", "state": state})
    assert (job.session_key, job.next_run_at, job.running_since) == ("agent:main:main", AT, None)
    assert job.last_run is not None
    assert (job.last_run.at, job.last_run.outcome) == (AT, "failed")
    assert (job.last_run.error, job.last_run.took_s) == ("no", 1.5)


@pytest.mark.parametrize(
    "raw",
    [{}, {"state": {"nextRunAtMs": "x", "lastRunAtMs": 9e15}, "schedule": {"kind": "at", "at": 7}}],
)
def test_an_answer_of_another_shape_is_no_error(raw: dict[str, Any]) -> None:
    job = read_job({"enabled": True, **raw})
    assert (job.id, job.next_run_at, job.last_run, job.schedule.at) == ("", None, None, None)


def test_the_servers_own_job_is_not_listed_and_somebodys_of_that_name_is() -> None:
    own = {"id": "own", **PLACEHOLDER}
    schedule = {**PLACEHOLDER["schedule"], "anchorMs": AT_MS}
    of_0_2 = {"id": "old", **PLACEHOLDER, "schedule": schedule, "state": {}}
    del of_0_2["declarationKey"]
    theirs = [
        {"id": "enabled", **of_0_2, "enabled": True},
        {"id": "text", **of_0_2, "payload": {"kind": "agentTurn", "message": "It is noon"}},
        {"id": "short", "name": "clock", "enabled": False},
    ]
    assert read_jobs({"jobs": [own, of_0_2, *theirs]}) == [read_job(each) for each in theirs]


def test_runs_are_read() -> None:
    entry = {
        "ts": AT_MS + 2_000,
        "jobId": "j-1",
        "jobName": "report",
        "status": "ok",
        "summary": "All is well.",
        "runAtMs": AT_MS,
        "runId": "manual:j-1:7",
        "sessionKey": "agent:main:cron:j-1:run:8c75",
        "usage": {"input_tokens": 7, "output_tokens": -1},
    }
    run, later = read_runs({"entries": [entry, {"ts": 1_000}, {"jobId": "j-1"}, 7]})
    assert (run.id, run.began_at, run.is_forced) == (f"j-1:{AT_MS}", AT, True)
    assert (run.outcome, run.answer) == ("ok", "All is well.")
    assert (run.session_key, run.input_tokens, run.output_tokens) == (
        "agent:main:cron:j-1", 7, None
    )  # fmt: skip
    assert later.outcome is None
