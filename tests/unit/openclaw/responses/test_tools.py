"""A client's tools and its choice among them, as the gateway takes them."""

from typing import Any

import pytest

from chowder_local.core.errors.agents import MessageRefused
from chowder_local.openclaw.responses.tools import (
    AGENT_BUILT_INS,
    AGENT_TOOL_NAMES,
    Offer,
    parse_tools,
    to_gateway_function,
)
from chowder_local.relay.prompt_format.system_prompt import ONE_AT_A_TIME

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "name": "get_weather", "parameters": PARAMETERS}
OTHER = {"type": "function", "name": "get_time", "parameters": PARAMETERS}


def offered(choice: Any = None, *tools: dict[str, Any], **more: Any) -> Offer:
    return parse_tools({"tools": list(tools or (TOOL, OTHER)), "tool_choice": choice, **more})


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (TOOL, TOOL),
        # LangChain and the Agents SDK write out what is not set.
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


def test_chats_way_to_write_a_function_is_understood() -> None:
    nested = {"type": "function", "function": {k: v for k, v in TOOL.items() if k != "type"}}
    assert to_gateway_function(nested) == TOOL


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    (tool,) = offered(None, {"type": "function", "name": "now", "parameters": None}).tools
    assert tool["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize("kind", sorted(AGENT_BUILT_INS))
def test_what_the_agent_does_itself_is_left_to_it(kind: str) -> None:
    assert offered("auto", {"type": kind}, TOOL).tools == [TOOL]


@pytest.mark.parametrize(
    "kind", ["mcp", "file_search", "computer_use_preview", "image_generation", "custom", None]
)
def test_a_tool_that_nobody_has_here_is_refused_by_name(kind: str | None) -> None:
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
    made = offered(choice)
    assert made.choice == sent
    assert {tool["name"] for tool in made.tools} == names
    assert made.is_demanding == (sent not in ("auto", "none"))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"type": "function", "name": "nosuch"}, "not among the tools"),
        ({"type": "allowed_tools", "mode": "required", "tools": []}, "not among the tools"),
        ({"type": "web_search_preview"}, "understood are"),
        ({"type": "function"}, "understood are"),
        ("sometimes", "'sometimes' is none of auto, none, required; an object names a function"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(choice: Any, words: str) -> None:
    with pytest.raises(MessageRefused, match=words):
        offered(choice)


def test_demanding_a_call_needs_a_function() -> None:
    with pytest.raises(MessageRefused, match="not among the tools"):
        parse_tools({"tool_choice": "required"})


def test_two_functions_of_one_name_are_refused() -> None:
    with pytest.raises(MessageRefused, match="two functions called 'Get_Weather'"):
        offered(None, TOOL, {**TOOL, "name": "Get_Weather"})


@pytest.mark.parametrize("name", ["read", "Web_Search", "final_answer"])
def test_a_function_called_like_one_of_the_agents_goes_by_another_name(name: str) -> None:
    assert name.lower() in AGENT_TOOL_NAMES
    choice = {"type": "function", "name": name}
    made = offered(choice, {**TOOL, "name": name}, TOOL)
    assert made.choice == {"type": "function", "name": f"client_{name}"}
    assert [tool["name"] for tool in made.tools] == [f"client_{name}"]
    assert made.names == {f"client_{name}": name}


def test_the_other_name_is_nobodys() -> None:
    made = offered(None, {**TOOL, "name": "read"}, {**TOOL, "name": "client_read"})
    assert [tool["name"] for tool in made.tools] == ["client_client_read", "client_read"]
    assert made.names == {"client_client_read": "read"}


def test_one_call_at_a_time_is_a_rule_if_there_is_anything_to_call() -> None:
    assert offered(parallel_tool_calls=False).rule == ONE_AT_A_TIME
    assert offered(parallel_tool_calls=True).rule is None
    assert parse_tools({"parallel_tool_calls": False}).rule is None


@pytest.mark.parametrize(
    ("tools", "words"),
    [("web_search", "tools must be an array"), (["web_search"], "a tool must be an object")],
)
def test_what_is_no_list_of_tools_is_refused(tools: Any, words: str) -> None:
    with pytest.raises(MessageRefused, match=words):
        parse_tools({"tools": tools})
