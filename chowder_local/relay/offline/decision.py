"""What the offline model replies to a conversation: a quote that proves memory, or a tool call."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from chowder_local.relay.offline.function_calls import arguments_from, fits, match_function, minimal
from chowder_local.relay.prompt_format.system_prompt import (
    ANSWER_TOOL,
    ONE_AT_A_TIME,
    find_tool_demand,
    own_tools,
)
from chowder_local.relay.prompt_format.user_messages import view
from chowder_local.relay.wire.conversation import Tool, ToolCall, ToolChoice
from chowder_local.relay.wire.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.relay.prompt_format.user_messages import ConversationView
    from chowder_local.relay.wire.conversation import Conversation

_MAX_QUOTE = 2000
# The one argument of an answer that may be any JSON object: its text.
_ANY_OBJECT = "json"
_ASKED_FOR = re.compile(r"\bcall\s+[`'\"]?([A-Za-z_][\w.-]*)[`'\"]?\s*", re.IGNORECASE)


def decide(conversation: Conversation) -> Reply:
    """The same conversation always gets the same reply."""
    seen = view(conversation.turns)
    if seen.returned is None and (calls := tuple(_calls(conversation, seen))):
        return Reply(calls=calls[:1] if ONE_AT_A_TIME in conversation.system else calls)
    # An answer that came back was no good, and there is no other.
    is_tried = seen.returned is not None and seen.returned.name == ANSWER_TOOL
    if not is_tried and (tool := _answer_tool(conversation)):
        return Reply(calls=(_structured(conversation, seen, tool),))
    return Reply(_answer(seen))


def _answer(seen: ConversationView) -> str:
    turn = len(seen.messages)
    said = seen.latest
    text = f'[offline] Turn {turn}. You said: "{_quote(said)}"'
    if seen.returned is not None:
        return f'{text} Tool {seen.returned.name} answered: "{_quote(seen.returned.text)}"'
    if turn > 1:
        return f'{text} Before that: "{_quote(seen.messages[-2])}"'
    return text


def _quote(text: str) -> str:
    return text if len(text) <= _MAX_QUOTE else text[:_MAX_QUOTE] + "…"


def _calls(conversation: Conversation, seen: ConversationView) -> Iterator[ToolCall]:
    choice = _choice(conversation)
    if choice.mode == "none" or not conversation.tools or not seen.messages:
        return
    said = seen.messages[-1]
    wanted = list(_asked_for(conversation, said))
    if not wanted and choice.name is None:
        wanted = list(_fitting(conversation, said))
    if not wanted and choice.mode == "required" and not _answer_tool(conversation):
        tool = _offered(conversation, choice.name) or _first_of_client(conversation)
        wanted = [(tool, _object_in(said))]
    for number, (tool, arguments) in enumerate(wanted):
        id_ = conversation.digest[:22] + f"{number:02}" if number else conversation.digest[:24]
        given = minimal(tool.parameters) if arguments is None else arguments
        yield ToolCall(f"call_{id_}", tool.name, given)


def _asked_for(
    conversation: Conversation, said: str
) -> Iterator[tuple[Tool, dict[str, Any] | None]]:
    at = 0
    while at >= 0 and (found := _ASKED_FOR.search(said, at)):
        at = found.end(1)
        if tool := _offered(conversation, found[1].rstrip(".-")):
            arguments, end = _object_at(said, found.end())
            yield tool, arguments
            at = said.find("\n", at if arguments is None else end)


def _fitting(conversation: Conversation, said: str) -> Iterator[tuple[Tool, dict[str, Any] | None]]:
    theirs = [each for each in client_functions(conversation) if each.name != ANSWER_TOOL]
    if tool := match_function(said, theirs):
        given = _object_in(said)
        is_fit = given is not None and fits(tool.parameters, given)
        yield tool, given if is_fit else arguments_from(said, tool.parameters)


def _choice(conversation: Conversation) -> ToolChoice:
    is_demanded, name = find_tool_demand(conversation.system)
    if is_demanded and conversation.choice.mode == "auto":
        return ToolChoice("required", name)
    return conversation.choice


def _answer_tool(conversation: Conversation) -> Tool | None:
    return _offered(conversation, ANSWER_TOOL) if find_tool_demand(conversation.system)[0] else None


def _structured(conversation: Conversation, seen: ConversationView, tool: Tool) -> ToolCall:
    """The object in the person's words if it is one that is wanted, else the smallest one."""
    arguments = minimal(tool.parameters)
    said = _object_in(seen.latest)
    if list(arguments) == [_ANY_OBJECT]:
        answer = {"answer": _answer(seen)} if said is None else said
        arguments = {_ANY_OBJECT: json.dumps(answer, ensure_ascii=False)}
    elif said is not None and fits(tool.parameters, said):
        arguments = said
    return ToolCall(f"call_{conversation.digest[:24]}", tool.name, arguments)


def _offered(conversation: Conversation, name: str | None) -> Tool | None:
    return next((tool for tool in conversation.tools if tool.name == name), None)


def _first_of_client(conversation: Conversation) -> Tool:
    return (client_functions(conversation) or list(conversation.tools))[0]


def client_functions(conversation: Conversation) -> list[Tool]:
    """The agent's own tools are listed in OpenClaw's system prompt; a client's are not."""
    own = own_tools(conversation.system)
    if own is None:
        # They cannot be told apart.
        return []
    return [tool for tool in conversation.tools if tool.name not in own]


def _object_at(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    """The JSON object that begins there, if one does, and where it ends."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return None, start
    return (value, end) if isinstance(value, dict) else (None, start)


def _object_in(text: str) -> dict[str, Any] | None:
    for found in re.finditer(r"\{", text):
        if (value := _object_at(text, found.start())[0]) is not None:
            return value
    return None
