"""Which messages the stand-in model answers at length."""

from __future__ import annotations

import json

from benchmarks.model_stand_in import long_answer_prompt, requested_stream


def body(*said: str) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": each} for each in said]}).encode()


def test_the_last_message_tells_how_long_its_answer_is() -> None:
    assert requested_stream(body(f"[Mon] {long_answer_prompt(100, 20, 50)}", "context")) == (
        100,
        20,
        50,
    )


def test_a_message_before_that_is_history() -> None:
    assert requested_stream(body(long_answer_prompt(100, 20, 50), "Hello.", "context")) is None


def test_of_two_the_later_one_counts() -> None:
    assert requested_stream(body(long_answer_prompt(1, 1, 1), long_answer_prompt(2, 3, 4))) == (
        2,
        3,
        4,
    )
