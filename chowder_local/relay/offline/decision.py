"""Decides the offline model's reply: a quote that proves memory, or a tool call."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from chowder_local.relay.offline.function_calls import arguments_from, fits, match_function, minimal
from chowder_local.relay.prompt_format import (
    ANSWER_TOOL,
    ONE_AT_A_TIME,
    CallableTools,
    client_name,
    find_tool_demand,
    make_view,
    own_tools,
)
from chowder_local.relay.wire.conversation import Tool, ToolCall, ToolChoice
from chowder_local.relay.wire.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.relay.prompt_format import ConversationView
    from chowder_local.relay.wire.conversation import Conversation

_MAX_QUOTE = 2000
_MAX_SEARCHED = 64_000
"""The part of a message that is searched for calls and JSON objects."""
_MAX_CALLS = 16
_MAX_OBJECTS = 32
"""How many braces of a message are tried as the beginning of a JSON object."""
# The only argument of an answer tool that takes any JSON object, as a text.
_ANY_OBJECT = "json"
_CALL_REQUEST = re.compile(r"\bcall\s+[`'\"]?([A-Za-z_][\w.-]*)[`'\"]?\s*", re.IGNORECASE)


def decide(conversation: Conversation) -> Reply:
    """The reply; always the same for the same conversation."""
    view = make_view(conversation.turns)
    is_demanded, name = find_tool_demand(conversation.system)
    answer_tool = _find_tool(conversation, ANSWER_TOOL) if is_demanded else None
    choice = conversation.choice
    if is_demanded and choice.mode == "auto":
        choice = ToolChoice("required", name)
    if view.tool_result is None:
        calls = tuple(_calls(conversation, view, choice, has_answer_tool=answer_tool is not None))
        if calls:
            return Reply(calls=calls[:1] if ONE_AT_A_TIME in conversation.system else calls)
    # A structured answer that came back was rejected, and there is no other.
    is_tried = view.tool_result is not None and view.tool_result.name == ANSWER_TOOL
    if not is_tried and answer_tool is not None:
        return Reply(calls=(_structured_answer(conversation, view, answer_tool),))
    return Reply(_answer(view))


def _answer(view: ConversationView) -> str:
    turn, result = len(view.messages), view.tool_result
    text = f'[offline] Turn {turn}. You said: "{_quote(view.latest)}"'
    if result is not None:
        return f'{text} Tool {client_name(result.name)} answered: "{_quote(result.text)}"'
    if turn > 1:
        return f'{text} Before that: "{_quote(view.messages[-2])}"'
    return text


def _quote(text: str) -> str:
    return text if len(text) <= _MAX_QUOTE else text[:_MAX_QUOTE] + "…"


def _calls(
    conversation: Conversation, view: ConversationView, choice: ToolChoice, *, has_answer_tool: bool
) -> Iterator[ToolCall]:
    if choice.mode == "none" or not conversation.tools or not view.messages:
        return
    message = view.messages[-1][:_MAX_SEARCHED]
    calls = list(islice(_requested_calls(conversation, message), _MAX_CALLS))
    if not calls and choice.name is None:
        calls = list(_matching_calls(conversation, message))
    if not calls and choice.mode == "required" and not has_answer_tool:
        tool = _find_tool(conversation, choice.name) or _first_client_tool(conversation)
        calls = [(tool, _first_object(message))]
    for number, (tool, arguments) in enumerate(calls):
        filled = minimal(tool.parameters) if arguments is None else arguments
        yield ToolCall(f"call_{conversation.digest[:22]}{number:02}", tool.name, filled)


def _requested_calls(
    conversation: Conversation, message: str
) -> Iterator[tuple[Tool, dict[str, Any] | None]]:
    tools, at = CallableTools(conversation), 0
    offered = {tool.name: tool for tool in reversed(conversation.tools)}
    while at >= 0 and (match := _CALL_REQUEST.search(message, at)):
        at = match.end(1)
        if name := tools.find(match[1].rstrip(".-")):
            tool = offered.get(name) or Tool(name)
            arguments, end = _object_at(message, match.end())
            yield tool, arguments
            at = message.find("\n", at if arguments is None else end)


def _matching_calls(
    conversation: Conversation, message: str
) -> Iterator[tuple[Tool, dict[str, Any] | None]]:
    functions = [each for each in client_functions(conversation) if each.name != ANSWER_TOOL]
    if tool := match_function(message, functions):
        values = _first_object(message)
        is_fit = values is not None and fits(tool.parameters, values)
        yield tool, values if is_fit else arguments_from(message, tool.parameters)


def _structured_answer(conversation: Conversation, view: ConversationView, tool: Tool) -> ToolCall:
    """A call with the object in the user's message if it fits, else with the smallest one."""
    arguments = minimal(tool.parameters)
    written = _first_object(view.latest[:_MAX_SEARCHED])
    if list(arguments) == [_ANY_OBJECT]:
        answer = {"answer": _answer(view)} if written is None else written
        arguments = {_ANY_OBJECT: json.dumps(answer, ensure_ascii=False)}
    elif written is not None and fits(tool.parameters, written):
        arguments = written
    return ToolCall(f"call_{conversation.digest[:24]}", tool.name, arguments)


def _find_tool(conversation: Conversation, name: str | None) -> Tool | None:
    return next((tool for tool in conversation.tools if tool.name == name), None)


def _first_client_tool(conversation: Conversation) -> Tool:
    return (client_functions(conversation) or list(conversation.tools))[0]


def client_functions(conversation: Conversation) -> list[Tool]:
    """The tools that are not the agent's own, which OpenClaw lists in its system prompt."""
    own = own_tools(conversation.system)
    if own is None:
        # Without that list they cannot be distinguished.
        return []
    return [tool for tool in conversation.tools if tool.name not in own]


def _object_at(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    """The JSON object at a place, None if there is none, and the index of its end."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start
    return (value, end) if isinstance(value, dict) else (None, start)


def _first_object(text: str) -> dict[str, Any] | None:
    for match in islice(re.finditer(r"\{", text), _MAX_OBJECTS):
        if (value := _object_at(text, match.start())[0]) is not None:
            return value
    return None
