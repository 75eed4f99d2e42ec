"""`trace` against a scripted server."""

import json
from typing import Any

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

FISH: dict[str, Any] = {"id": "0a1b2c3d-4e5f", "name": "fish"}
INSTANCES = "GET /v1/instances"
TRACES = f"GET /local/instances/{FISH['id']}/traces"
TURN: dict[str, Any] = {
    "id": "request-1",
    "kind": "message",
    "job": None,
    "response_id": "resp_1",
    "session": None,
    "session_key": "agent:main:main",
    "at": "2026-11-29T10:11:12.5Z",
    "took_s": 1.25,
    "status": "answered",
    "error": None,
    "model_calls": 1,
}
MODEL: dict[str, Any] = {
    "kind": "model_call",
    "name": "gpt-4o",
    "model_call_id": "ex-1",
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
FAILED = TURN | {"id": "request-2", "response_id": None, "status": "failed", "session": "desk",
                 "session_key": "agent:main:desk",
                 "error": "Gateway unavailable – gone"}  # fmt: skip


def test_the_latest_turn_is_shown_step_by_step_after_those_that_failed(
    serve: Serve, capsys: Output
) -> None:
    trace = TURN | {"steps": [MODEL, TOOL]}
    turns = {f"{TRACES}?limit=1000": [TURN, FAILED], f"{TRACES}/request-1": trace}
    env, _ = serve({INSTANCES: [FISH]} | turns)
    assert run(["trace", "fish"], env) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "request-2 failed at 2026-11-29 10:11:12: Gateway unavailable – gone"
    ]
    lines = printed.out.splitlines()
    assert lines[0] == "resp_1, the main session, 2026-11-29 10:11:12"
    assert lines[3].split() == ["0.10", "s", "0.50", "s", "model", "gpt-4o", "7", "+", "2",
                                "ex-1:", "offline"]  # fmt: skip
    assert lines[4].split()[:5] == ["0.10", "s", "…", "tool", "exec"]
    assert lines[4].endswith("…")
    assert run(["trace", "fish", "resp", "--output", "wide"], env) == 0
    assert "x" * 99 in capsys.readouterr().out
    assert run(["trace", "fish", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == trace


def test_a_failed_turn_is_shown_by_its_id_and_if_it_is_the_latest(
    serve: Serve, capsys: Output
) -> None:
    turns = {f"{TRACES}?limit=1000": [FAILED, TURN], f"{TRACES}/request-2": FAILED | {"steps": []}}
    env, _ = serve({INSTANCES: [FISH]} | turns)
    for which in ([], ["request-2"]):
        assert run(["trace", "fish", *which], env) == 0
        first, second, *_ = capsys.readouterr().out.splitlines()
        assert first == "request-2, session desk, 2026-11-29 10:11:12"
        assert second == "failed after 1.25 s: Gateway unavailable – gone"


def test_turns_are_listed_latest_first_whether_they_failed_or_not(
    serve: Serve, capsys: Output
) -> None:
    env, _ = serve({INSTANCES: [FISH], f"{TRACES}?limit=20": [TURN, FAILED]})
    assert run(["trace", "fish", "--list"], env) == 0
    _, answered, failed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert failed[0] == "request-2"
    assert failed[3:6] == ["message", "desk", "failed"]
    assert answered[0] == "resp_1"


def test_an_unknown_answer_is_an_error(serve: Serve, capsys: Output) -> None:
    env, _ = serve({INSTANCES: [FISH], f"{TRACES}?limit=1000": [TURN]})
    assert run(["trace", "fish", "resp_2"], env) == 1
    assert "trace fish --list" in capsys.readouterr().err
