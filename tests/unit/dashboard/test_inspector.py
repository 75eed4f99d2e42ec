"""Which model calls are retries of failed ones."""

from __future__ import annotations

import json
from typing import Any

from chowder_local.core.domain import InstanceId, OrganizationId
from chowder_local.dashboard.model_calls import Retried, retried_by
from chowder_local.relay.call_log import CallLog, ModelCall

MAIN = "agent:main:main"


class Turn:
    """A turn of an agent, to which calls are added."""

    def __init__(self) -> None:
        self.call_log = CallLog()
        self.calls: list[ModelCall] = []

    def call(
        self, key: str = MAIN, *, reply: str | None = None, error: str | None = None
    ) -> Retried:
        """Adds a call with its answer or error; returns what it retries."""
        system = f"Runtime: agent=main | session={key} | sessionId=1"
        request = {"model": "gpt-4o", "messages": [{"role": "system", "content": system}]}
        made = self.call_log.begin(
            OrganizationId("o"), InstanceId("i"), "openai", "chat/completions",
            json.dumps(request).encode(), "t",
        )  # fmt: skip
        self.calls.insert(0, made)
        retried = retried_by(made, self.calls)
        if reply is not None:
            answer: dict[str, Any] = {"choices": [{"message": {"content": reply}}]}
            self.call_log.append(made, json.dumps(answer).encode())
            made.status = 200
            made.finish("answered")
        elif error is not None:
            made.finish("refused", error)
        return retried


def test_a_call_after_a_tools_result_is_no_retry() -> None:
    turn = Turn()
    assert turn.call(reply="Let me see.") == Retried()
    assert turn.call(reply="It is north.") == Retried()


def test_retries_of_failed_and_empty_calls_are_counted() -> None:
    turn = Turn()
    turn.call(reply="Let me see.")
    turn.call(error="No.")
    assert turn.call(reply="").count == 1
    latest = turn.call(reply="North.")
    assert (latest.count, latest.call) == (2, turn.calls[1])
    assert turn.call() == Retried()


def test_openclaws_own_calls_are_no_attempts() -> None:
    turn = Turn()
    turn.call(error="Too long.")
    assert turn.call("agent:main:summary", reply="Short.") == Retried()
    assert turn.call().count == 1


def test_a_running_call_has_not_failed() -> None:
    turn = Turn()
    turn.call()
    assert turn.call() == Retried()
