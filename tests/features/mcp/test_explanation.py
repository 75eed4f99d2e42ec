"""Why an agent failed, in words."""

from __future__ import annotations

from typing import Any

from chowder_local.features.mcp.server import explain

INSTANCE: dict[str, Any] = {"id": "i-1", "status": "running", "error_message": None}
CALL: dict[str, Any] = {"id": "ex-2", "provider": "openai", "status": 200, "error": None}
FAILED = CALL | {"id": "ex-1", "status": 429, "error": "rate limit reached"}
FAULT: dict[str, Any] = {"instance_id": None, "kind": "message", "left": 2}


def test_nothing_has_failed() -> None:
    told = explain(INSTANCE, [CALL], [], ["[gateway] ready"])
    assert told["summary"].startswith("Nothing has failed")
    assert told["failed_model_call"] is None
    assert told["log"] == ["[gateway] ready"]


def test_a_failed_boot_is_told_with_its_reason() -> None:
    broken = INSTANCE | {"status": "error", "error_message": "no memory"}
    assert "in error: no memory" in explain(broken, [], [], [])["summary"]


def test_the_last_model_call_that_failed_is_told() -> None:
    told = explain(INSTANCE, [FAILED], [], [])
    assert told["failed_model_call"] == FAILED
    assert "ex-1 to openai failed: rate limit reached." in told["summary"]
    assert "succeeded" not in told["summary"]


def test_a_failure_that_is_over_is_told_as_such() -> None:
    assert "Later calls succeeded" in explain(INSTANCE, [CALL, FAILED], [], [])["summary"]


def test_faults_of_the_instance_and_of_all_are_told() -> None:
    others = FAULT | {"instance_id": "i-2", "kind": "stop"}
    told = explain(INSTANCE, [], [FAULT, others], [])
    assert told["faults"] == [FAULT]
    assert "on purpose: message (2 left)" in told["summary"]


def test_suspicious_lines_of_the_log_are_chosen() -> None:
    log = ["[gateway] ready", "[telegram] token refused", "[gateway] idle"]
    assert explain(INSTANCE, [], [], log)["log"] == ["[telegram] token refused"]
