"""Rules that repeat a model's answer."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.core.domain import InstanceId, ModelProvider, OrganizationId
from chowder_local.relay.prompt_format import ModelRequest
from chowder_local.relay.scripts.files import make_script, parse, serialize
from chowder_local.relay.scripts.registry import Refusal, ScriptRegistry
from chowder_local.relay.wire.conversation import Conversation, Reply, ToolCall
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


async def replayed(recorded: Conversation, output: ModelOutput, status: int) -> Reply | Refusal:
    scripts = ScriptRegistry()
    # As a file, which must be accepted.
    script = parse(serialize(make_script(recorded, output, status)))
    scripts.put(OrganizationId("o"), script)
    request = ModelRequest.from_conversation(
        recorded, ModelProvider.OPENAI, None, is_session_known=False
    )
    scripted = await scripts.answer(OrganizationId("o"), InstanceId("i"), request)
    assert scripted is not None
    return scripted.answer


@pytest.mark.parametrize("messages", [HELLO, CALLED])
@pytest.mark.parametrize(
    "output",
    [
        ModelOutput("Up there."),
        ModelOutput(""),
        ModelOutput("Let me look.", (ToolCall("c", "exec", {"command": "ls"}),)),
        ModelOutput("", (ToolCall("c", "exec", {}), ToolCall("d", "get_weather", {"at": "a"}))),
    ],
)
async def test_a_rule_made_of_an_answer_repeats_it(
    messages: list[dict[str, Any]], output: ModelOutput
) -> None:
    answer = await replayed(conversation(messages), output, 200)
    assert isinstance(answer, Reply)
    assert answer.text == output.text
    assert [(each.name, each.arguments) for each in answer.calls] == [
        (each.name, each.arguments) for each in output.calls
    ]


async def test_a_rule_made_of_an_error_repeats_it() -> None:
    answer = await replayed(conversation(HELLO), ModelOutput(error="Slow down."), 429)
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.message) == (429, "Slow down.")


async def test_members_without_a_value_are_not_written() -> None:
    made = make_script(conversation(HELLO), ModelOutput("Up."), 200)
    assert made.model_dump(exclude_unset=True) == {
        "replies": [{"match": {"text": "Where is north?"}, "reply": "Up."}]
    }
