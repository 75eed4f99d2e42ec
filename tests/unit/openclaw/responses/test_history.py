"""The part of a message that a conversation has already."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.openclaw.responses import history
from chowder_local.openclaw.responses.history import digests_of_items


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}


def answer(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": text}


RULE = {"type": "message", "role": "system", "content": "Be brief."}
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "Rain."}
SAID = [user("yes"), answer("One."), user("yes"), answer("Two."), user("Three?"), answer("Three.")]


def unknown(*items: dict[str, Any]) -> list[dict[str, Any]]:
    return list(history.unknown_items(items, digests_of_items(SAID)))


@pytest.mark.parametrize(
    ("items", "new"),
    [
        ([*SAID, user("Four?")], [user("Four?")]),
        ([user("yes")], [user("yes")]),
        ([*SAID, user("a"), RULE, user("b")], [user("a"), RULE, user("b")]),
        ([user("Look!"), CALL, OUTPUT], [OUTPUT]),
        # The Vercel AI SDK sends an answer's id in place of the answer.
        ([user("a"), {"type": "item_reference", "id": "msg_1"}, user("b")], [user("b")]),
        ([user("a"), {"type": "reasoning", "id": "rs_1", "summary": []}, user("b")], [user("b")]),
        # Without new items, the latest message is answered again.
        ([user("a"), answer("b"), user("c"), answer("d")], [user("c"), answer("d")]),
        ([RULE], [RULE]),
    ],
)
def test_items_after_the_latest_answer_are_new(
    items: list[dict[str, Any]], new: list[dict[str, Any]]
) -> None:
    assert list(history.parse_input(items).new) == new


def test_a_history_that_was_sent_before_is_known() -> None:
    assert unknown(*SAID) == []


def test_a_client_may_send_the_end_of_a_history_or_leave_some_of_it_out() -> None:
    assert unknown(*SAID[3:]) == []
    assert unknown(SAID[0], SAID[4], SAID[5]) == []


def test_rules_are_sent_with_every_message() -> None:
    assert unknown(RULE, *SAID) == [RULE]


def test_history_is_unknown_from_the_first_foreign_or_edited_item_on() -> None:
    edited = [user("No!"), *SAID[3:]]
    assert unknown(RULE, *SAID[:2], *edited) == [RULE, *edited]
    assert unknown(user("Foreign."), answer("Yes.")) == [user("Foreign."), answer("Yes.")]


def test_new_messages_beside_a_functions_result_stay() -> None:
    known = digests_of_items([*SAID, user("Look!"), CALL])

    def new(*items: dict[str, Any]) -> list[dict[str, Any]]:
        return list(history.unrepeated_items(items, known))

    assert new(RULE, user("Look!"), OUTPUT) == [RULE, OUTPUT]
    assert new(user("Look!"), user("And?"), OUTPUT) == [user("And?"), OUTPUT]
    assert new(OUTPUT, user("Look!")) == [OUTPUT, user("Look!")]
    assert new(user("Look!"), user("Look!")) == [user("Look!"), user("Look!")]


def test_an_unknown_answer_comes_with_its_user_message() -> None:
    edited = [SAID[2], answer("Something else."), *SAID[4:]]
    assert unknown(*SAID[:2], *edited) == edited
