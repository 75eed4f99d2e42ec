"""Digests of items: the same one for all forms of the same content."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.openclaw.responses import inputs
from chowder_local.openclaw.responses.history import (
    digests_of_items,
    item_text,
    items_of_output,
)

TEXT = {"type": "output_text", "text": "Hello there.", "annotations": [], "logprobs": []}
ANSWER = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
CALL = {
    "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look",
    "arguments": '{"city":"Oslo","days":3}', "status": "completed",
}  # fmt: skip
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def digests(*items: dict[str, Any]) -> list[bytes]:
    return digests_of_items(
        gateway_item for each in items if (gateway_item := inputs.to_gateway_item(each)) is not None
    )


@pytest.mark.parametrize(
    ("answered", "sent_back"),
    [
        (ANSWER | {"content": [TEXT]}, {"role": "assistant", "content": "Hello there."}),
        (
            ANSWER | {"content": [TEXT]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "Hello there.\n"}]},
        ),
        (
            ANSWER | {"content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ),
        (CALL, {**CALL, "id": None, "status": None, "arguments": '{ "days": 3, "city": "Oslo" }'}),
        # Some clients take the item's id for the call's.
        (CALL, CALL | {"call_id": CALL["id"]}),
    ],
)
def test_an_answer_is_recognized_in_the_form_in_which_a_client_sends_it_back(
    answered: dict[str, Any], sent_back: dict[str, Any]
) -> None:
    assert digests(*items_of_output([answered])) == digests(sent_back) != []


def test_a_users_text_and_images_are_recognized_in_any_form() -> None:
    image = {"type": "input_image", "image_url": PIXEL, "detail": "low"}
    original = {"role": "user", "content": [{"type": "input_text", "text": "Look:"}, image]}
    chat = {"type": "image_url", "image_url": {"url": PIXEL}}
    again = {
        "type": "message",
        "role": "user",
        "content": [{"type": "text", "text": "Look: "}, chat],
    }
    assert digests(original) == digests(again)


def test_other_content_has_another_digest() -> None:
    others: list[dict[str, Any]] = [
        {"role": "user", "content": "Hello there."},
        {"role": "assistant", "content": "Hello there."},
        {"role": "user", "content": "Hello there!"},
        {"role": "user", "content": [{"type": "input_image", "image_url": PIXEL}]},
        CALL,
        CALL | {"call_id": "call_2"},
        CALL | {"arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "Rain."},
        {"type": "function_call_output", "call_id": "call_1", "output": "Sun."},
    ]
    assert len(set(digests(*others))) == len(others)


def test_rules_and_empty_messages_leave_no_trace() -> None:
    assert digests({"role": "developer", "content": "Be brief."}) == []
    assert digests({"role": "assistant", "content": ""}) == []


def test_an_output_that_no_client_could_send_back_has_no_digest() -> None:
    assert items_of_output([{"type": "hologram"}]) == []


def test_item_text_covers_user_messages_and_function_outputs() -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": "Rain\n later"}
    assert item_text(output) == "Rain later"
    assert item_text({"type": "message", "role": "user", "content": " Hi "}) == "Hi"
    assert item_text({"type": "message", "role": "assistant", "content": "Hi"}) == ""
