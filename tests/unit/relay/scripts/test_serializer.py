"""A rule made of what a model has said says it again."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.core.domain import InstanceId, ModelProvider, OrganizationId
from chowder_local.relay.scripts.matching import Ask, Refusal
from chowder_local.relay.scripts.registry import ScriptRegistry
from chowder_local.relay.scripts.rules import ReplyScript
from chowder_local.relay.scripts.serializer import rule_of
from chowder_local.relay.wire.conversation import Conversation, ToolCall
from chowder_local.relay.wire.reply import Reply
from chowder_local.relay.wire.wire_format import ModelOutput
from tests.scripted.model_calls import conversation_of

HELLO = [{"role": "user", "content": "Where is north?"}]
CALLED: list[dict[str, Any]] = [
    *HELLO,
    {"role": "assistant", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "exec", "arguments": "{}"}},
    ]},
    {"role": "tool", "tool_call_id": "c1", "content": "up"},
]  # fmt: skip


def conversation(messages: list[dict[str, Any]]) -> Conversation:
    body = {"model": "gpt-4o", "messages": messages}
    return conversation_of(ModelProvider.OPENAI, "v1/chat/completions", body)


async def replayed(asked: Conversation, said: ModelOutput, status: int) -> Reply | Refusal:
    scripts = ScriptRegistry()
    script = ReplyScript.model_validate({"replies": [rule_of(asked, said, status)]})
    scripts.put(OrganizationId("o"), script)
    question = Ask.of(ModelProvider.OPENAI, asked, None, is_session_known=False)
    found = await scripts.answer(OrganizationId("o"), InstanceId("i"), question, "d" * 64)
    assert found is not None
    return found.answer


@pytest.mark.parametrize("messages", [HELLO, CALLED])
@pytest.mark.parametrize(
    "said",
    [
        ModelOutput("Up there."),
        ModelOutput(""),
        ModelOutput("Let me look.", (ToolCall("c", "exec", {"command": "ls"}),)),
        ModelOutput("", (ToolCall("c", "exec", {}), ToolCall("d", "read", {"path": "a"}))),
    ],
)
async def test_the_same_is_said_when_the_same_is_asked(
    messages: list[dict[str, Any]], said: ModelOutput
) -> None:
    again = await replayed(conversation(messages), said, 200)
    assert isinstance(again, Reply)
    assert again.text == said.text
    assert [(each.name, each.arguments) for each in again.calls] == [
        (each.name, each.arguments) for each in said.calls
    ]


async def test_a_failure_fails_again() -> None:
    again = await replayed(conversation(HELLO), ModelOutput(error="Slow down."), 429)
    assert isinstance(again, Refusal)
    assert (again.status, again.words) == (429, "Slow down.")


async def test_what_is_not_set_is_not_written_down() -> None:
    rule = rule_of(conversation(HELLO), ModelOutput("Up."), 200)
    assert rule.model_dump(exclude_unset=True) == {
        "match": {"text": "Where is north?"}, "reply": "Up.",
    }  # fmt: skip
