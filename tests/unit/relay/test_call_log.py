"""The log of the latest model calls and its bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chowder_local.core.domain import InstanceId, ModelProvider, OrganizationId
from chowder_local.relay.call_log import MAX_ANSWER_BYTES, CallLog, FailedAttempt, ModelCall

ORGANIZATION, INSTANCE = OrganizationId("o"), InstanceId("i")


def begun(call_log: CallLog, body: bytes = b"{}", instance: str = "i") -> ModelCall:
    return call_log.begin(
        ORGANIZATION, InstanceId(instance), ModelProvider.OPENAI, "responses", body
    )


def test_calls_are_listed_by_instance_latest_first() -> None:
    call_log = CallLog()
    first, _, third = begun(call_log), begun(call_log, instance="other"), begun(call_log)

    assert list(call_log.of_instance(INSTANCE)) == [third, first]


def test_a_call_is_found_by_id_only_by_its_own_organization() -> None:
    call_log = CallLog()
    made = begun(call_log)

    assert call_log.get(ORGANIZATION, made.id) is made
    assert call_log.get(OrganizationId("other"), made.id) is None
    assert call_log.get(ORGANIZATION, "ex-99") is None


def test_an_answer_is_kept_chunk_by_chunk_up_to_a_size() -> None:
    call_log = CallLog()
    made = begun(call_log)
    for data in (b"a", b"b" * MAX_ANSWER_BYTES, b"c"):
        call_log.append(made, data)
    made.finish("answered")

    assert [chunk.data for chunk in made.chunks] == [b"a"]
    assert made.answer_bytes == MAX_ANSWER_BYTES + 2
    assert (made.outcome, made.error) == ("answered", None)
    assert made.took_s is not None
    assert 0 <= made.chunks[0].after_s <= made.took_s


def test_the_oldest_calls_make_room_for_new_ones() -> None:
    call_log = CallLog(max_bytes=100)
    first, second = begun(call_log, b"x" * 60), begun(call_log, b"x" * 30)
    call_log.append(second, b"y" * 20)

    assert list(call_log.of_instance(INSTANCE)) == [second]
    # Chunks for a dropped call are ignored.
    call_log.append(first, b"z" * 50)
    assert first.chunks == []
    assert list(call_log.of_instance(INSTANCE)) == [second]


def test_a_call_larger_than_the_log_is_kept_until_the_next_one() -> None:
    call_log = CallLog(max_bytes=10)
    large = begun(call_log, b"x" * 60)
    assert list(call_log.of_instance(INSTANCE)) == [large]
    small = begun(call_log)
    assert list(call_log.of_instance(INSTANCE)) == [small]


def test_calls_of_a_warm_sandbox_are_not_kept() -> None:
    call_log = CallLog()
    made = call_log.begin(None, None, ModelProvider.ANTHROPIC, "v1/messages", b"{}")
    call_log.append(made, b"x")

    assert made.chunks == []


def test_viewers_are_notified_of_a_retry() -> None:
    call_log = CallLog()
    made = begun(call_log)
    made.source = "script: slow"
    with call_log.changes.watching() as news:
        made.retry(429, 1.5)
        assert news.is_set()
    assert made.tries == [FailedAttempt("script: slow", 429, 1.5)]


def last_message(provider: ModelProvider, path: str, body: bytes) -> str | None:
    return CallLog().begin(ORGANIZATION, INSTANCE, provider, path, body).last_message


MESSAGES = [
    {"role": "user", "content": "First."},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Second?"},
]


@pytest.mark.parametrize(
    ("provider", "path", "body"),
    [
        (ModelProvider.ANTHROPIC, "v1/messages", {"messages": MESSAGES, "max_tokens": 9}),
        (ModelProvider.OPENAI, "chat/completions", {"messages": MESSAGES}),
        (ModelProvider.OPENAI, "responses", {"input": MESSAGES}),
        (
            ModelProvider.GEMINI,
            "models/gemini-2.5-flash:generateContent",
            {"contents": [{"role": "user", "parts": [{"text": "Second?"}]}]},
        ),
    ],
)
def test_the_latest_message_is_found(
    provider: ModelProvider, path: str, body: dict[str, Any]
) -> None:
    asked = json.dumps({"model": "m"} | body).encode()
    assert last_message(provider, path, asked) == "Second?"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model":"m","messages":[]}', b"\xff"])
def test_a_request_without_a_message_has_no_latest_message(body: bytes) -> None:
    assert last_message(ModelProvider.ANTHROPIC, "v1/messages", body) is None
    assert last_message(ModelProvider.OPENAI, "embeddings", body) is None
