"""Tool rules of the system prompt as parameters of the model call."""

import json
from typing import Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.prompt_format import (
    ANY_TOOL,
    ONE_AT_A_TIME,
    ONE_TOOL,
    find_tool_demand,
)
from chowder_local.relay.tool_choice import enforce_tool_choice
from tests.scripted.model_calls import model_call

ANTHROPIC, OPENAI, GEMINI = (
    ModelProvider.ANTHROPIC,
    ModelProvider.OPENAI,
    ModelProvider.GEMINI,
)
PINNED = ONE_TOOL.format("get_weather")
HANDED_OVER = '{"status":"pending","message":"Tool execution delegated to client"}'


def call(provider: ModelProvider, system: str, **more: Any) -> dict[str, Any]:
    """A model call as OpenClaw writes it."""
    body: dict[str, Any]
    rules: dict[str, Any]
    if provider is ANTHROPIC:
        turns = [{"role": "user", "content": "Hi"}]
        body = {"system": [{"type": "text", "text": system}], "messages": turns}
    elif provider is OPENAI:
        rules = {"role": "developer", "content": [{"type": "input_text", "text": system}]}
        body = {"input": [rules, {"role": "user", "content": "Hi"}]}
    else:
        rules = {"parts": [{"text": system}]}
        hello = {"role": "user", "parts": [{"text": "Hi"}]}
        body = {"systemInstruction": rules, "contents": [hello]}
    return {**body, "tools": [{"name": "exec"}], **more}


def sent(provider: ModelProvider, body: dict[str, Any]) -> dict[str, Any]:
    """The members that are added or changed."""
    after: dict[str, Any] = json.loads(enforce_tool_choice(model_call(provider, "", body)).body)
    return {key: value for key, value in after.items() if body.get(key) != value}


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (f"You are kind. {ANY_TOOL}", (True, None)),
        (f"You are kind. {PINNED}", (True, "get_weather")),
        ("You are kind.", (False, None)),
    ],
)
def test_a_demand_is_read_from_the_system_prompt(
    system: str, expected: tuple[bool, str | None]
) -> None:
    assert find_tool_demand(system) == expected


@pytest.mark.parametrize("system", [ANY_TOOL, f"Be kind.\n\n{PINNED}"])
@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (ANTHROPIC, {"tool_choice": {"type": "any"}}),
        (OPENAI, {"tool_choice": "required"}),
        (GEMINI, {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
    ],
)
def test_a_demand_becomes_the_providers_own_parameter(
    provider: ModelProvider, expected: dict[str, Any], system: str
) -> None:
    assert sent(provider, call(provider, system)) == expected


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (ANTHROPIC, {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
        (OPENAI, {"parallel_tool_calls": False}),
        (GEMINI, {}),
    ],
)
def test_one_call_at_a_time_becomes_the_providers_own_parameter(
    provider: ModelProvider, expected: dict[str, Any]
) -> None:
    assert sent(provider, call(provider, ONE_AT_A_TIME)) == expected


def test_a_demand_and_one_call_at_a_time_combine() -> None:
    body = call(ANTHROPIC, f"{ONE_AT_A_TIME} {ANY_TOOL}")
    assert sent(ANTHROPIC, body) == {
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True}
    }


def test_anthropic_is_not_told_how_many_calls_a_call_without_tools_may_make() -> None:
    body = call(ANTHROPIC, ONE_AT_A_TIME, tool_choice={"type": "none"})
    assert sent(ANTHROPIC, body) == {}


@pytest.mark.parametrize("provider", list(ModelProvider))
def test_a_call_without_a_tool_rule_stays_byte_for_byte(
    provider: ModelProvider,
) -> None:
    quiet = json.dumps(call(provider, "Be kind."), indent=3).encode()
    asked = model_call(provider, "", quiet)
    assert enforce_tool_choice(asked) is asked
    # In a user message it is no rule.
    quoted = call(provider, "Be kind.", metadata={"x": ANY_TOOL})
    assert sent(provider, quoted) == {}
    without_tools = call(provider, ANY_TOOL) | {"tools": []}
    assert sent(provider, without_tools) == {}


def test_a_model_that_thinks_is_not_forced() -> None:
    assert sent(ANTHROPIC, call(ANTHROPIC, ANY_TOOL, thinking={"type": "enabled"})) == {
        "tool_choice": {"type": "auto"}
    }
    assert sent(ANTHROPIC, call(ANTHROPIC, ANY_TOOL, thinking={"type": "disabled"})) == {
        "tool_choice": {"type": "any"}
    }


@pytest.mark.parametrize(
    ("provider", "choice"),
    [
        (ANTHROPIC, {"tool_choice": {"type": "none"}}),
        (OPENAI, {"tool_choice": "none"}),
        (GEMINI, {"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}}),
    ],
)
def test_an_explicit_tool_choice_stays(provider: ModelProvider, choice: dict[str, Any]) -> None:
    assert sent(provider, call(provider, ANY_TOOL, **choice)) == {}


RESULT = {"type": "tool_result", "tool_use_id": "t", "content": HANDED_OVER}
OUTPUT = {"type": "function_call_output", "call_id": "t", "output": HANDED_OVER}
OWN = OUTPUT | {"output": "a.txt"}
RESPONSE = {"parts": [{"functionResponse": {"response": {"output": HANDED_OVER}}}]}
HI = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
RULES = {"role": "developer", "content": ANY_TOOL}


@pytest.mark.parametrize(
    ("provider", "turns", "is_met"),
    [
        (ANTHROPIC, {"messages": [HI, {"role": "user", "content": [RESULT]}]}, True),
        (ANTHROPIC, {"messages": [{"role": "user", "content": [RESULT]}, HI]}, False),
        (ANTHROPIC, {"messages": [{"role": "user", "content": [RESULT, *HI["content"]]}]}, False),
        (OPENAI, {"input": [RULES, HI, OUTPUT, OWN]}, True),
        (OPENAI, {"input": [RULES, OUTPUT, OWN, HI]}, False),
        (OPENAI, {"input": [RULES, HI, OWN]}, False),
        (OPENAI, {"messages": [RULES, {"role": "tool", "content": HANDED_OVER}]}, True),
        (GEMINI, {"contents": [{"parts": [{"text": "Hi"}]}, RESPONSE]}, True),
        (GEMINI, {"contents": [RESPONSE, {"parts": [{"text": "Hi"}]}]}, False),
    ],
)
def test_a_demand_is_met_once_a_clients_function_was_called_in_this_turn(
    provider: ModelProvider, turns: dict[str, Any], is_met: bool
) -> None:
    changed = sent(provider, call(provider, ANY_TOOL) | turns)
    assert (changed == {}) == is_met


@pytest.mark.parametrize(
    ("provider", "turns"),
    [
        (
            ANTHROPIC,
            [
                {"role": "assistant", "content": [{"type": "tool_use"}]},
                {"role": "user", "content": [RESULT | {"content": "no"}]},
            ],
        ),
        (OPENAI, [{"type": "function_call"}, OWN]),
        (
            GEMINI,
            [
                {"role": "model", "parts": [{"functionCall": {}}]},
                {"role": "user", "parts": [{"functionResponse": {}}]},
            ],
        ),
    ],
)
def test_a_demand_ends_after_many_other_calls(
    provider: ModelProvider, turns: list[dict[str, Any]]
) -> None:
    member = {ANTHROPIC: "messages", OPENAI: "input", GEMINI: "contents"}[provider]
    body = call(provider, ANY_TOOL)
    said = body[member]
    assert sent(provider, body | {member: [*said, *turns * 24]})
    assert not sent(provider, body | {member: [*said, *turns * 25]})
    # Those of earlier turns do not count.
    assert sent(provider, body | {member: [*said, *turns * 25, *said]})


def test_chat_completions_have_tool_rules_in_their_system_messages() -> None:
    messages = [{"role": "system", "content": ANY_TOOL}, {"role": "user", "content": "Hi"}]
    body = {"messages": messages, "tools": [{"type": "function"}]}
    assert sent(OPENAI, body) == {"tool_choice": "required"}
    responses = {"instructions": ANY_TOOL, "input": "Hi", "tools": [{"type": "function"}]}
    assert sent(OPENAI, responses) == {"tool_choice": "required"}


@pytest.mark.parametrize("provider", list(ModelProvider))
@pytest.mark.parametrize(
    "body",
    [
        b"{ before responding.",
        b'["before responding."]',
        b'{"system": 5, "input": [5]} before responding.',
        b"[" * 99_999 + b'"before responding."' + b"]" * 99_999,
    ],
)
def test_an_unknown_shape_goes_to_the_provider_unchanged(
    provider: ModelProvider, body: bytes
) -> None:
    asked = model_call(provider, "", body)
    assert enforce_tool_choice(asked) is asked
