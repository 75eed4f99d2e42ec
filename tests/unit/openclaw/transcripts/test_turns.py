"""What became of a user's messages, from what OpenClaw keeps in and beside a conversation."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.openclaw.transcripts.program_output import Message
from chowder_local.openclaw.transcripts.turns import (
    Attempt,
    Turn,
    messages_beside,
    with_messages_beside,
    with_statuses,
)


def user(text: str, position: int = 0) -> Turn:
    return Turn(position, "user", text=text)


def other(role: str = "assistant", **more: Any) -> Turn:
    return Turn(1, role, text="x", **more)


FAILURE = other(error="500")


def statuses(*turns: Turn, is_end: bool = True, is_answering: bool = False) -> list[str | None]:
    told = with_statuses(turns, is_end=is_end, is_answering=is_answering)
    return [turn.status for turn in told if turn.role == "user"]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([user("a"), other()], ["completed"]),
        ([user("a"), FAILURE, user("b"), other()], ["failed", "completed"]),
        ([user("a"), other("tool_call"), other("tool_result"), other()], ["completed"]),
        # Handed over to the client.
        ([user("a"), other("tool_call")], ["completed"]),
        ([user("a"), other("tool_call"), other("tool_result"), user("b"), other()],
         ["cancelled", "completed"]),
        ([user("a"), other(), user("b")], ["completed", "cancelled"]),
        # They came together.
        ([user("a"), user("b"), other()], ["completed", "completed"]),
    ],
)  # fmt: skip
def test_a_message_is_what_its_answer_makes_of_it(
    turns: list[Turn], expected: list[str | None]
) -> None:
    assert statuses(*turns) == expected


def test_the_last_message_may_be_about_to_be_answered_or_be_answered_on_the_next_page() -> None:
    assert statuses(user("a"), is_answering=True) == ["in_progress"]
    assert statuses(user("a"), is_end=False) == [None]
    assert statuses(other(), user("a"), other("tool_result"), is_end=False) == [None]


def test_a_message_beside_the_conversation_that_was_not_sent_again_keeps_why_it_failed() -> None:
    told = with_messages_beside([user("b", 5), other()], [[user("a", 3), FAILURE]])
    assert [(turn.text, turn.status, turn.error) for turn in told[:2]] == [
        ("a", "failed", "500"),
        ("b", None, None),
    ]


def test_a_message_beside_the_conversation_is_an_attempt_of_the_one_that_says_the_same() -> None:
    told = with_messages_beside([user("a"), other()], [[user("a"), FAILURE], [user("a")]])
    attempts = (Attempt(None, "failed", "500"), Attempt(None, "cancelled"))
    assert [turn.attempts for turn in told] == [attempts, ()]
    assert statuses(*told) == ["completed"]


def test_another_message_beside_the_conversation_stands_before_what_followed_it() -> None:
    told = with_messages_beside([user("a"), other(), user("b", 2)], [[user("lost", 2)], [other()]])
    assert [turn.text for turn in told] == ["a", "x", "lost", "b"]
    assert statuses(*told, is_answering=True) == ["completed", "cancelled", "in_progress"]
    (last,) = with_messages_beside([], [[user("lost")]])
    assert last.status == "cancelled"


def test_only_messages_of_which_nothing_came_are_told_from_beside_the_conversation() -> None:
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
        Message.model_validate({"position": 0, "role": role, "is_beside": is_beside, **more})
        for role, is_beside, more in kinds
    ]
    assert messages_beside(messages) == [[messages[1], messages[2]]]
