"""What the offline model replies to a conversation: a quote that proves memory, or a tool call."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from chowder_local.relay.choices import ANSWER_TOOL, ONE_AT_A_TIME, demanded
from chowder_local.relay.offline.arguments import fits, minimal
from chowder_local.relay.offline.conversation import (
    Called,
    Choice,
    Reply,
    Tool,
)
from chowder_local.relay.offline.function_matching import arguments_from, match_function
from chowder_local.relay.offline.view import seen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.relay.offline.conversation import Conversation
    from chowder_local.relay.offline.view import View

_MAX_QUOTE = 2000
# The one argument of an answer that may be any JSON object: its text.
_ANY_OBJECT = "json"
_ASKED_FOR = re.compile(r"\bcall\s+[`'\"]?([A-Za-z_][\w.-]*)[`'\"]?\s*", re.IGNORECASE)
_TOOLING = re.compile(r"^## Tooling$(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_OWN_TOOL = re.compile(r"^- (\S+?)(?=[:\s]|$)", re.MULTILINE)


def decide(conversation: Conversation) -> Reply:
    """The same conversation always gets the same reply."""
    view = seen(conversation)
    if view.returned is None and (calls := tuple(_calls(conversation, view))):
        return Reply(calls=calls[:1] if ONE_AT_A_TIME in conversation.system else calls)
    # An answer that came back was no good, and there is no other.
    is_tried = view.returned is not None and view.returned.name == ANSWER_TOOL
    if not is_tried and (tool := _answer_tool(conversation)):
        return Reply(calls=(_structured(conversation, view, tool),))
    return Reply(_answer(view))


def _answer(view: View) -> str:
    turn = len(view.messages)
    said = view.messages[-1] if view.messages else ""
    text = f'[offline] Turn {turn}. You said: "{_quote(said)}"'
    if view.returned is not None:
        return f'{text} Tool {view.returned.name} answered: "{_quote(view.returned.text)}"'
    if turn > 1:
        return f'{text} Before that: "{_quote(view.messages[-2])}"'
    return text


def _quote(text: str) -> str:
    return text if len(text) <= _MAX_QUOTE else text[:_MAX_QUOTE] + "…"


def _calls(conversation: Conversation, view: View) -> Iterator[Called]:
    choice = _choice(conversation)
    if choice.mode == "none" or not conversation.tools or not view.messages:
        return
    said = view.messages[-1]
    wanted = list(_asked_for(conversation, said))
    if not wanted and choice.name is None:
        wanted = list(_fitting(conversation, said))
    if not wanted and choice.mode == "required" and not _answer_tool(conversation):
        tool = _offered(conversation, choice.name) or _first_of_client(conversation)
        wanted = [(tool, _object_in(said))]
    for number, (tool, arguments) in enumerate(wanted):
        id_ = conversation.digest[:22] + f"{number:02}" if number else conversation.digest[:24]
        given = minimal(tool.parameters) if arguments is None else arguments
        yield Called(f"call_{id_}", tool.name, given)


def _asked_for(
    conversation: Conversation, said: str
) -> Iterator[tuple[Tool, dict[str, Any] | None]]:
    """The tools that a message tells to call, one a line, with the arguments that it gives."""
    at = 0
    while at >= 0 and (found := _ASKED_FOR.search(said, at)):
        at = found.end(1)
        if tool := _offered(conversation, found[1].rstrip(".-")):
            arguments, end = _object_at(said, found.end())
            yield tool, arguments
            at = said.find("\n", at if arguments is None else end)


def _fitting(conversation: Conversation, said: str) -> Iterator[tuple[Tool, dict[str, Any] | None]]:
    """The one function of the client's that a message is about, if there is one."""
    theirs = [each for each in client_functions(conversation) if each.name != ANSWER_TOOL]
    if tool := match_function(said, theirs):
        given = _object_in(said)
        is_fit = given is not None and fits(tool.parameters, given)
        yield tool, given if is_fit else arguments_from(said, tool.parameters)


def _choice(conversation: Conversation) -> Choice:
    is_told, name = demanded(conversation.system)
    if is_told and conversation.choice.mode == "auto":
        return Choice("required", name)
    return conversation.choice


def _answer_tool(conversation: Conversation) -> Tool | None:
    """What the answer has to be given with, if it is to be a structured one."""
    return _offered(conversation, ANSWER_TOOL) if demanded(conversation.system)[0] else None


def _structured(conversation: Conversation, view: View, tool: Tool) -> Called:
    """The object in the person's words if it is one that is wanted, else the smallest one."""
    arguments = minimal(tool.parameters)
    said = _object_in(view.messages[-1] if view.messages else "")
    if list(arguments) == [_ANY_OBJECT]:
        answer = {"answer": _answer(view)} if said is None else said
        arguments = {_ANY_OBJECT: json.dumps(answer, ensure_ascii=False)}
    elif said is not None and fits(tool.parameters, said):
        arguments = said
    return Called(f"call_{conversation.digest[:24]}", tool.name, arguments)


def _offered(conversation: Conversation, name: str | None) -> Tool | None:
    return next((tool for tool in conversation.tools if tool.name == name), None)


def _first_of_client(conversation: Conversation) -> Tool:
    return (client_functions(conversation) or list(conversation.tools))[0]


def client_functions(conversation: Conversation) -> list[Tool]:
    """The agent's own tools are listed in OpenClaw's system prompt; a client's are not."""
    tooling = _TOOLING.search(conversation.system)
    if tooling is None and "OpenClaw" in conversation.system:
        # They cannot be told apart.
        return []
    own = set(_OWN_TOOL.findall(tooling[1])) if tooling else set()
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
