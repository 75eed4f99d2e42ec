"""Detecting that an agent has forgotten the session that a message relies on."""

from __future__ import annotations

from chowder_local.core.domain import ModelProvider, SandboxId
from chowder_local.relay.session_watch import SessionWatch
from tests.scripted.model_calls import model_call

SANDBOX, KEY = SandboxId("chowder-1"), "agent:main:main"


def call(session_id: str, key: str = KEY) -> bytes:
    line = f"Runtime: agent=main | session={key} | sessionId={session_id} | host=agent"
    return b'{"input": [{"role": "developer", "content": "%s"}]}' % line.encode()


def is_lost(watch: SessionWatch, body: bytes) -> bool:
    return watch.is_lost(SANDBOX, model_call(ModelProvider.OPENAI, "responses", body))


def test_a_message_that_relies_on_an_earlier_session_is_lost_in_another_one() -> None:
    watch = SessionWatch()
    with watch.watching(SANDBOX, KEY, "first") as message:
        assert not message.is_certain
        assert not is_lost(watch, call("first"))
        assert (message.is_certain, message.is_lost) == (True, False)
        assert is_lost(watch, call("second"))
        assert (message.is_certain, message.is_lost) == (False, True)
    assert not is_lost(watch, call("second"))


def test_a_message_without_an_expected_session_gets_the_current_one() -> None:
    watch = SessionWatch()
    with watch.watching(SANDBOX, KEY, None) as message:
        assert message.is_certain
        assert not is_lost(watch, call("other", key="agent:main:s-1"))
        assert message.session_id is None
        assert not is_lost(watch, call("first"))
        assert message.session_id == "first"
