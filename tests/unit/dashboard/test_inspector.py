"""Which model calls repeat one that came to nothing."""

from __future__ import annotations

import json
from typing import Any

from chowder_local.core.domain import InstanceId, OrganizationId
from chowder_local.dashboard.inspector import Retried, retried_by
from chowder_local.relay.call_log import CallLog, LoggedCall

MAIN = "agent:main:main"


class Turn:
    """A turn of an agent, call by call."""

    def __init__(self) -> None:
        self.exchanges = CallLog()
        self.calls: list[LoggedCall] = []

    def call(
        self, key: str = MAIN, *, said: str | None = None, error: str | None = None
    ) -> Retried:
        """One more call, with what came back; what it repeats."""
        system = f"Runtime: agent=main | session={key} | sessionId=1"
        asked = {"model": "gpt-4o", "messages": [{"role": "system", "content": system}]}
        made = self.exchanges.begin(
            OrganizationId("o"), InstanceId("i"), "openai", "chat/completions",
            json.dumps(asked).encode(), "t",
        )  # fmt: skip
        self.calls.insert(0, made)
        retried = retried_by(made, self.calls)
        if said is not None:
            answer: dict[str, Any] = {"choices": [{"message": {"content": said}}]}
            self.exchanges.append(made, json.dumps(answer).encode())
            made.status = 200
            made.finish("answered")
        elif error is not None:
            made.finish("refused", error)
        return retried


def test_a_call_after_a_tools_result_is_a_first_one() -> None:
    turn = Turn()
    assert turn.call(said="Let me see.") == Retried()
    assert turn.call(said="It is north.") == Retried()


def test_calls_after_failures_and_silence_are_counted() -> None:
    turn = Turn()
    turn.call(said="Let me see.")
    turn.call(error="No.")
    assert turn.call(said="").count == 1
    latest = turn.call(said="North.")
    assert (latest.count, latest.call) == (2, turn.calls[1])
    assert turn.call() == Retried()


def test_what_openclaw_asks_on_its_own_is_no_attempt() -> None:
    turn = Turn()
    turn.call(error="Too long.")
    assert turn.call("agent:main:summary", said="Short.") == Retried()
    assert turn.call().count == 1


def test_one_that_goes_on_has_not_come_to_nothing() -> None:
    turn = Turn()
    turn.call()
    assert turn.call() == Retried()
