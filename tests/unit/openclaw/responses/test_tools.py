"""A client's tools and tool choice in the gateway's form."""

from typing import Any

import pytest

from chowder_local.core.errors.agents import MessageRefused
from chowder_local.openclaw.responses.tools import (
    AGENT_BUILT_INS,
    Offer,
    parse_tools,
    to_gateway_function,
)
from chowder_local.relay.prompt_format import AGENT_TOOL_NAMES, ONE_AT_A_TIME

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "name": "get_weather", "parameters": PARAMETERS}
OTHER = {"type": "function", "name": "get_time", "parameters": PARAMETERS}


def offered(choice: Any = None, *tools: dict[str, Any], **more: Any) -> Offer:
    return parse_tools({"tools": list(tools or (TOOL, OTHER)), "tool_choice": choice, **more})


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (TOOL, TOOL),
        # LangChain and the Agents SDK send unset members as null.
        ({**TOOL, "strict": None, "description": None, "defer_loading": False}, TOOL),
        (
            {**TOOL, "strict": True, "description": "Weather"},
            {**TOOL, "strict": True, "description": "Weather"},
        ),
        ({**TOOL, "strict": False}, {**TOOL, "strict": False}),
    ],
)
def test_function_tools_are_passed_on(tool: dict[str, Any], expected: dict[str, Any]) -> None:
    assert offered(None, tool).tools == [expected]


def test_a_function_in_the_chat_completions_form_is_accepted() -> None:
    nested = {"type": "function", "function": {k: v for k, v in TOOL.items() if k != "type"}}
    assert to_gateway_function(nested) == TOOL


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    (tool,) = offered(None, {"type": "function", "name": "now", "parameters": None}).tools
    assert tool["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize("kind", sorted(AGENT_BUILT_INS))
def test_built_in_tools_that_the_agent_has_are_left_out(kind: str) -> None:
    assert offered("auto", {"type": kind}, TOOL).tools == [TOOL]


@pytest.mark.parametrize(
    "kind", ["mcp", "file_search", "computer_use_preview", "image_generation", "custom", None]
)
def test_an_unavailable_built_in_tool_is_refused_by_name(kind: str | None) -> None:
    with pytest.raises(MessageRefused, match=f"built-in tool {kind!r} is not available"):
        offered(None, {"type": kind})


NAMES = {"get_weather", "get_time"}


@pytest.mark.parametrize(
    ("choice", "sent", "names"),
    [
        (None, "auto", NAMES),
        ("auto", "auto", NAMES),
        ("none", "none", NAMES),
        ("required", "required", NAMES),
        (
            {"type": "function", "name": "get_time"},
            {"type": "function", "name": "get_time"},
            {"get_time"},
        ),
        (
            {"type": "function", "function": {"name": "get_time"}},
            {"type": "function", "name": "get_time"},
            {"get_time"},
        ),
        ({"type": "allowed_tools", "mode": "auto", "tools": [OTHER]}, "auto", {"get_time"}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [OTHER, {"type": "web_search"}]},
            "required",
            {"get_time"},
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOL]}},
            "required",
            {"get_weather"},
        ),
        ({"type": "allowed_tools", "mode": "auto"}, "auto", set()),
    ],
)
def test_a_choice_narrows_what_is_offered(choice: Any, sent: Any, names: set[str]) -> None:
    offer = offered(choice)
    assert offer.choice == sent
    assert {tool["name"] for tool in offer.tools} == names
    assert offer.is_call_required == (sent not in ("auto", "none"))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"type": "function", "name": "nosuch"}, "not among the tools"),
        ({"type": "allowed_tools", "mode": "required", "tools": []}, "not among the tools"),
        ({"type": "web_search_preview"}, "it must be"),
        ({"type": "function"}, "it must be"),
        ("sometimes", "'sometimes' is none of auto, none, required; an object names a function"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(choice: Any, words: str) -> None:
    with pytest.raises(MessageRefused, match=words):
        offered(choice)


def test_a_required_call_needs_a_function() -> None:
    with pytest.raises(MessageRefused, match="not among the tools"):
        parse_tools({"tool_choice": "required"})


def test_two_functions_of_one_name_are_refused() -> None:
    with pytest.raises(MessageRefused, match="two functions called 'Get_Weather'"):
        offered(None, TOOL, {**TOOL, "name": "Get_Weather"})


@pytest.mark.parametrize("name", ["read", "Web_Search", "final_answer"])
def test_a_function_called_like_one_of_the_agents_goes_by_another_name(name: str) -> None:
    assert name.lower() in AGENT_TOOL_NAMES
    choice = {"type": "function", "name": name}
    offer = offered(choice, {**TOOL, "name": name}, TOOL)
    assert offer.choice == {"type": "function", "name": f"client_{name}"}
    assert [tool["name"] for tool in offer.tools] == [f"client_{name}"]
    assert offer.names == {f"client_{name}": name}


def test_another_name_is_unused() -> None:
    offer = offered(None, {**TOOL, "name": "read"}, {**TOOL, "name": "client_read"})
    assert [tool["name"] for tool in offer.tools] == ["client_client_read", "client_read"]
    assert offer.names == {"client_client_read": "read"}


def test_one_call_at_a_time_is_a_rule_only_with_functions() -> None:
    assert offered(parallel_tool_calls=False).rule == ONE_AT_A_TIME
    assert offered(parallel_tool_calls=True).rule is None
    assert parse_tools({"parallel_tool_calls": False}).rule is None


@pytest.mark.parametrize(
    ("tools", "words"),
    [("web_search", "tools must be an array"), (["web_search"], "a tool must be an object")],
)
def test_tools_that_are_no_array_are_refused(tools: Any, words: str) -> None:
    with pytest.raises(MessageRefused, match=words):
        parse_tools({"tools": tools})
