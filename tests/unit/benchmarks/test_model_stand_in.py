"""Which messages the stand-in model answers at length."""

from __future__ import annotations

import json

from benchmarks.model_stand_in import asked_for, asked_last


def body(*said: str) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": each} for each in said]}).encode()


def test_the_last_message_tells_how_long_its_answer_is() -> None:
    assert asked_last(body(f"[Mon] {asked_for(100, 20, 50)}", "context")) == (100, 20, 50)


def test_a_message_before_that_is_history() -> None:
    assert asked_last(body(asked_for(100, 20, 50), "Hello.", "context")) is None


def test_of_two_the_later_one_counts() -> None:
    assert asked_last(body(asked_for(1, 1, 1), asked_for(2, 3, 4))) == (2, 3, 4)
