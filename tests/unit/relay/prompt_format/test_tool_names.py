"""Which tool a name stands for in a request to a model."""

from __future__ import annotations

import pytest

from chowder_local.relay.prompt_format import (
    CallableTools,
    client_name,
    gateway_names,
    is_same_tool,
)
from chowder_local.relay.wire.conversation import Conversation, PromptTool

PROMPT = (
    "OpenClaw\n## Tooling\n- exec: Run shell\n- read\n### Deferred Tool Schemas\n"
    "- automations (core): Schedule\n- web_search (core): Search\n{}Call it directly.\n## Next\n"
)


def tools(*functions: str, omitted: str = "") -> CallableTools:
    offered = ["exec", "read", *(gateway_names(functions).get(each, each) for each in functions)]
    system = PROMPT.format(omitted)
    return CallableTools(Conversation("m", system, (), tools=tuple(map(PromptTool, offered))))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("exec", "exec"),
        ("bash", "exec"),
        ("automations", "automations"),
        ("cron", "automations"),
        ("web_search", "web_search"),
        ("get_weather", None),
    ],
)
def test_the_agents_tools_are_found_by_name_and_alias(name: str, found: str | None) -> None:
    assert tools().find(name) == found


def test_a_clients_function_comes_before_the_agents_tool_of_its_name() -> None:
    functions = ("web_search", "bash", "read", "client_read", "get_weather")
    found = [tools(*functions).find(name) for name in functions]
    assert found == [
        "client_web_search", "client_bash", "client_client_read", "client_read", "get_weather",
    ]  # fmt: skip


def test_a_renamed_function_has_the_clients_name_for_people() -> None:
    names = ["client_web_search", "client_client_read", "client_list", "exec"]
    assert [client_name(each) for each in names] == ["web_search", "read", "client_list", "exec"]
    assert is_same_tool("cron", "automations")
    assert is_same_tool("client_read", "read")
    assert not is_same_tool("client_list", "list")


def test_tools_are_known_to_be_all_only_if_openclaw_lists_all() -> None:
    assert tools().is_complete
    assert not tools(omitted="3 additional tools omitted. ").is_complete
    assert not CallableTools(Conversation("m", "OpenClaw", ())).is_complete
