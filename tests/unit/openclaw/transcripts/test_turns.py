"""The statuses and attempts of a user's messages, on and off the active branch."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.openclaw.transcripts.program_output import StoredMessage
from chowder_local.openclaw.transcripts.turns import (
    Attempt,
    TranscriptTurn,
    off_branch_messages,
    with_off_branch_turns,
    with_statuses,
)


def user(text: str, position: int = 0) -> TranscriptTurn:
    return TranscriptTurn(position, "user", text=text)


def other(role: str = "assistant", **more: Any) -> TranscriptTurn:
    return TranscriptTurn(1, role, text="x", **more)


FAILURE = other(error="500")


def statuses(
    *turns: TranscriptTurn, is_end: bool = True, is_answering: bool = False
) -> list[str | None]:
    result = with_statuses(turns, is_end=is_end, is_answering=is_answering)
    return [turn.status for turn in result if turn.role == "user"]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([user("a"), other()], ["completed"]),
        ([user("a"), FAILURE, user("b"), other()], ["failed", "completed"]),
        ([user("a"), other(error="HTTP client disconnected")], ["cancelled"]),
        ([user("a"), other("tool_call"), other("tool_result"), other()], ["completed"]),
        # A call that the client must answer.
        ([user("a"), other("tool_call")], ["completed"]),
        ([user("a"), other("tool_call"), other("tool_result"), user("b"), other()],
         ["cancelled", "completed"]),
        ([user("a"), other(), user("b")], ["completed", "cancelled"]),
        # Consecutive messages.
        ([user("a"), user("b"), other()], ["completed", "completed"]),
    ],
)  # fmt: skip
def test_a_messages_status_depends_on_its_answer(
    turns: list[TranscriptTurn], expected: list[str | None]
) -> None:
    assert statuses(*turns) == expected


def test_the_last_message_may_be_in_progress_or_answered_on_the_next_page() -> None:
    assert statuses(user("a"), is_answering=True) == ["in_progress"]
    assert statuses(user("a"), is_end=False) == [None]
    assert statuses(other(), user("a"), other("tool_result"), is_end=False) == [None]


def test_an_off_branch_message_that_was_not_sent_again_keeps_its_error() -> None:
    result = with_off_branch_turns([user("b", 5), other()], [[user("a", 3), FAILURE]])
    assert [(turn.text, turn.status, turn.error) for turn in result[:2]] == [
        ("a", "failed", "500"),
        ("b", None, None),
    ]


def test_an_off_branch_message_is_an_attempt_of_the_later_one_with_the_same_text() -> None:
    result = with_off_branch_turns([user("a"), other()], [[user("a"), FAILURE], [user("a")]])
    attempts = (Attempt(None, "failed", "500"), Attempt(None, "cancelled", None))
    assert [turn.attempts for turn in result] == [attempts, ()]
    assert statuses(*result) == ["completed"]


def test_another_off_branch_message_precedes_what_followed_it() -> None:
    result = with_off_branch_turns(
        [user("a"), other(), user("b", 2)], [[user("lost", 2)], [other()]]
    )
    assert [turn.text for turn in result] == ["a", "x", "lost", "b"]
    assert statuses(*result, is_answering=True) == ["completed", "cancelled", "in_progress"]
    (last,) = with_off_branch_turns([], [[user("lost")]])
    assert last.status == "cancelled"


def test_only_unanswered_off_branch_messages_become_turns() -> None:
    text = {"type": "text", "text": "x"}
    kinds: list[tuple[str, bool, dict[str, Any]]] = [
        ("assistant", True, {"parts": [text]}),
        ("user", True, {"parts": [text]}),
        ("assistant", True, {"error": "500"}),
        ("user", False, {"parts": [text]}),
        ("user", True, {"parts": [text]}),
        ("assistant", True, {"parts": [text]}),
    ]
    messages = [
        StoredMessage.model_validate(
            {"position": 0, "role": role, "is_off_branch": is_off_branch, **more}
        )
        for role, is_off_branch, more in kinds
    ]
    assert off_branch_messages(messages) == [[messages[1], messages[2]]]
