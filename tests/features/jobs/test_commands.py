"""`jobs` against a scripted server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.cli.main import run

if TYPE_CHECKING:
    from tests.wire.cli.conftest import Output, Serve

LIST = "GET /v1/instances"
FISH = {"id": "0a1b2c3d-4e5f", "name": "fish", "status": "running"}
OF_FISH = "/local/instances/0a1b2c3d-4e5f"
JOBS = f"{OF_FISH}/jobs"
JOB: dict[str, Any] = {
    "id": "9c30d9b1-e0de",
    "name": "report",
    "kind": "user",
    "schedule": {"kind": "cron", "cron": "0 9 * * *", "timezone": None},
    "message": "Write the report.",
    "session": None,
    "is_enabled": True,
    "next_run_at": "2026-12-02T09:00:00Z",
    "running_since": None,
    "last_run": {"outcome": "ok", "at": "2026-12-01T09:00:00Z"},
}


def test_jobs_are_a_table_with_what_is_next_and_what_was_last(
    serve_answers: Serve, capsys: Output
) -> None:
    once = {"kind": "at", "at": "2026-12-24T09:00:00Z"}
    hourly = {"kind": "every", "every_s": 3600.0}
    others = [
        JOB | {"id": "1", "name": "once", "schedule": once, "is_enabled": False, "last_run": None},
        JOB | {"id": "2", "name": "tick", "schedule": hourly, "running_since": "2026-12-01"},
        JOB | {"id": "3", "name": "odd", "schedule": {"kind": "moon"}},
    ]
    env, _ = serve_answers({LIST: [FISH], f"GET {JOBS}": [JOB, *others]})
    assert run(["jobs", "ls", "fish"], env) == 0
    _, report, once_line, tick, odd = capsys.readouterr().out.splitlines()
    assert "0 9 * * * UTC" in report
    assert "ok 2026-12-01 09:00" in report
    assert once_line.split()[-2:] == ["off", "-"]
    assert "every 3600 s" in tick
    assert tick.endswith("runs now")
    assert " moon " in odd


@pytest.mark.parametrize(
    ("options", "schedule", "more"),
    [
        (["--every", "1h30m"], {"kind": "every", "every_s": 5400.0}, {}),
        (
            ["--cron", "0 9 * * *", "--timezone", "Europe/Berlin", "--off"],
            {"kind": "cron", "cron": "0 9 * * *", "timezone": "Europe/Berlin"},
            {"is_enabled": False},
        ),
        (
            ["--at", "2026-12-24T09:00", "--deliver-channel", "telegram", "--deliver-to", "5"],
            {"kind": "at", "at": "2026-12-24T09:00"},
            {"deliver": {"channel": "telegram", "to": "5"}},
        ),
    ],
)
def test_a_job_is_created_with_one_of_three_schedules(
    serve_answers: Serve,
    capsys: Output,
    options: list[str],
    schedule: dict[str, Any],
    more: dict[str, Any],
) -> None:
    env, requests = serve_answers({LIST: [FISH], f"POST {JOBS}": (201, JOB)})
    assert run(["jobs", "create", "fish", "report", "Write it.", *options], env) == 0
    assert capsys.readouterr().out == f"{JOB['id']}\n"
    wanted = {"name": "report", "message": "Write it.", "is_enabled": True, "schedule": schedule}
    assert requests[-1] == (f"POST {JOBS}", wanted | more)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ([], "Give one of --at"),
        (["--every", "1h", "--at", "2026-12-24"], "Give one of --at"),
        (["--every", "soon"], "90m"),
    ],
)
def test_a_job_without_one_schedule_is_refused(
    serve_answers: Serve, capsys: Output, options: list[str], remedy: str
) -> None:
    env, requests = serve_answers({LIST: [FISH]})
    assert run(["jobs", "create", "fish", "report", "Write it.", *options], env) == 2
    assert remedy in capsys.readouterr().err
    assert f"POST {JOBS}" not in [call for call, _ in requests]


def test_a_job_is_changed_run_and_read_by_its_name(serve_answers: Serve, capsys: Output) -> None:
    ended = {
        "began_at": "2026-12-01T09:00:00Z",
        "took_s": 1.5,
        "outcome": "ok",
        "is_forced": True,
        "error": None,
        "answer": "Written.",
        "cost_usd": 0.02,
        "model_calls": ["ex-1"],
        "trace_id": "t",
        "session_key": "agent:main:cron:9c30",
    }
    of_job = f"{JOBS}/{JOB['id']}"
    env, requests = serve_answers({
        LIST: [FISH],
        f"GET {JOBS}": [JOB],
        f"PATCH {of_job}": JOB,
        f"POST {of_job}/run": (202, {"path": "forced"}),
        f"GET {of_job}/runs?limit=20": [ended],
        f"POST {OF_FISH}/wake": (204, None),
    })  # fmt: skip
    assert run(["jobs", "change", "fish", "report", "--off"], env) == 0
    assert requests[-1] == (f"PATCH {of_job}", {"is_enabled": False})
    nothing = ["--session", "", "--model", "", "--deliver-url", ""]
    assert run(["jobs", "change", "fish", "report", *nothing], env) == 0
    assert requests[-1] == (f"PATCH {of_job}", {"session": None, "model": None, "deliver": None})
    assert run(["jobs", "run", "fish", "report"], env) == 0
    assert run(["jobs", "runs", "fish", "report", "--output", "wide"], env) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[2:] == [
        "1.5", "s", "ok", "yes", "Written.", "$0.0200", "ex-1", "t", "agent:main:cron:9c30",
    ]  # fmt: skip
    assert run(["jobs", "wake", "fish", "The build is done."], env) == 0
    assert requests[-1] == (f"POST {OF_FISH}/wake", {"text": "The build is done."})
