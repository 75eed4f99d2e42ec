"""Detecting that an agent has forgotten the session that a message relies on."""

from __future__ import annotations

import json

from chowder_local.core.domain import InstanceId, ModelProvider, SandboxId
from chowder_local.relay.call_log import CallLog, ModelCall
from chowder_local.relay.session_watch import SessionWatch

SANDBOX, KEY = SandboxId("chowder-1"), "agent:main:main"


def call(session_id: str, key: str = KEY, text: str = "Hi") -> bytes:
    line = f"Runtime: agent=main | session={key} | sessionId={session_id} | host=agent"
    turns = [{"role": "developer", "content": line}, {"role": "user", "content": text}]
    return json.dumps({"model": "gpt-4o", "input": turns}).encode()


def logged(body: bytes, turn_id: str | None = None) -> ModelCall:
    instance = InstanceId("i")
    return CallLog().begin(None, instance, ModelProvider.OPENAI, "responses", body, turn_id)


def is_lost(watch: SessionWatch, body: bytes) -> bool:
    return not watch.note(SANDBOX, logged(body))


def test_a_message_that_relies_on_an_earlier_session_is_lost_in_another_one() -> None:
    watch = SessionWatch()
    with watch.watching(SANDBOX, KEY, "first") as message:
        assert not message.is_certain
        assert not is_lost(watch, call("first"))
        assert (message.is_certain, message.is_lost) == (True, False)
        assert is_lost(watch, call("second"))
        assert (message.is_certain, message.is_lost) == (False, True)
    assert not is_lost(watch, call("second"))


def test_a_call_without_the_id_of_a_session_is_no_sign_of_a_lost_one() -> None:
    watch = SessionWatch()
    with watch.watching(SANDBOX, KEY, "first") as message:
        assert not is_lost(watch, call("first").replace(b" | sessionId=first", b""))
        assert message.session_id is None


def test_a_message_without_an_expected_session_gets_the_current_one() -> None:
    watch = SessionWatch()
    with watch.watching(SANDBOX, KEY, None) as message:
        assert message.is_certain
        assert not is_lost(watch, call("other", key="agent:main:s-1"))
        assert message.session_id is None
        assert not is_lost(watch, call("first"))
        assert message.session_id == "first"


def test_the_calls_of_a_turn_are_its_messages_even_if_others_wait_in_the_session() -> None:
    watch = SessionWatch()
    with (
        watch.watching(SANDBOX, KEY, None, "Hello 1") as first,
        watch.watching(SANDBOX, KEY, None, "Hello 10") as second,
    ):
        of_second = [logged(call("a", text=text), "t-2") for text in ("Hello 10", "a tool's end")]
        of_first = logged(call("a", text="Hello 1"), "t-1")
        for each in (*of_second, of_first):
            assert watch.note(SANDBOX, each)
    assert second.calls == of_second
    assert first.calls == [of_first]
