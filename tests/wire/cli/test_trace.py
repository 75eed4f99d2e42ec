"""`trace` against a scripted server."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from chowder_local.cli.main import run

Serve = Callable[[dict[str, Any]], tuple[dict[str, str], list[Any]]]
Output = pytest.CaptureFixture[str]

FISH: dict[str, Any] = {"id": "0a1b2c3d-4e5f", "name": "fish"}
INSTANCES = "GET /v1/instances"
TRACES = f"GET /local/instances/{FISH['id']}/traces"
TURN: dict[str, Any] = {
    "response_id": "resp_1",
    "session": None,
    "session_key": "agent:main:main",
    "at": "2026-11-29T10:11:12.5Z",
    "took_s": 1.25,
    "status": "answered",
    "model_calls": 1,
}
MODEL: dict[str, Any] = {
    "kind": "model_call",
    "name": "gpt-4o",
    "exchange_id": "ex-1",
    "after_s": 0.1,
    "took_s": 0.5,
    "outcome": "offline",
    "error": None,
    "input_tokens": 7,
    "output_tokens": 2,
    "arguments": None,
}
TOOL = MODEL | {
    "kind": "tool",
    "name": "exec",
    "took_s": None,
    "input_tokens": None,
    "arguments": {"command": "x" * 99},
}
FAILED = TURN | {"response_id": None, "status": "failed", "session": "desk"}


def test_the_latest_answer_is_shown_step_by_step(serve: Serve, capsys: Output) -> None:
    trace = TURN | {"steps": [MODEL, TOOL]}
    table = {INSTANCES: [FISH], f"{TRACES}?limit=1000": [FAILED, TURN], f"{TRACES}/resp_1": trace}
    env, _ = serve(table)
    assert run(["trace", "fish"], env) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "resp_1, the main session, 2026-11-29 10:11:12"
    assert lines[3].split() == ["0.10", "s", "0.50", "s", "model", "gpt-4o", "7", "+", "2",
                                "ex-1:", "offline"]  # fmt: skip
    assert lines[4].split()[:5] == ["0.10", "s", "…", "tool", "exec"]
    assert lines[4].endswith("…")
    assert run(["trace", "fish", "resp", "--output", "wide"], env) == 0
    assert "x" * 99 in capsys.readouterr().out
    assert run(["trace", "fish", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == trace


def test_turns_are_listed_those_without_an_answer_too(serve: Serve, capsys: Output) -> None:
    env, _ = serve({INSTANCES: [FISH], f"{TRACES}?limit=20": [FAILED, TURN]})
    assert run(["trace", "fish", "--list"], env) == 0
    _, failed, answered = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert failed[0] == "-"
    assert failed[3:5] == ["desk", "failed"]
    assert answered[0] == "resp_1"


def test_an_unknown_answer_is_an_error(serve: Serve, capsys: Output) -> None:
    env, _ = serve({INSTANCES: [FISH], f"{TRACES}?limit=1000": [TURN]})
    assert run(["trace", "fish", "resp_2"], env) == 1
    assert "trace fish --list" in capsys.readouterr().err
