"""What the offline model replies to a conversation: a quote that proves memory, or a tool call."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from chowder_local.relay.choices import ANSWER_TOOL, demanded
from chowder_local.relay.offline.arguments import fits, minimal
from chowder_local.relay.offline.conversation import (
    Called,
    Choice,
    Reply,
    Tool,
)
from chowder_local.relay.offline.view import seen

if TYPE_CHECKING:
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
    if view.returned is None and (call := _call(conversation, view)):
        return Reply(calls=(call,))
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


def _call(conversation: Conversation, view: View) -> Called | None:
    choice = _choice(conversation)
    if choice.mode == "none" or not conversation.tools or not view.messages:
        return None
    said = view.messages[-1]
    id_ = f"call_{conversation.digest[:24]}"
    for found in _ASKED_FOR.finditer(said):
        if tool := _offered(conversation, found[1].rstrip(".-")):
            arguments = _object_at(said, found.end())
            return Called(
                id_, tool.name, minimal(tool.parameters) if arguments is None else arguments
            )
    if choice.mode == "required" and not _answer_tool(conversation):
        tool = _offered(conversation, choice.name) or _first_of_client(conversation)
        arguments = _object_in(said)
        return Called(id_, tool.name, minimal(tool.parameters) if arguments is None else arguments)
    return None


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
    if list(arguments) == [_ANY_OBJECT]:
        arguments = {_ANY_OBJECT: json.dumps({"answer": _answer(view)}, ensure_ascii=False)}
    elif (said := _object_in(view.messages[-1] if view.messages else "")) is not None and fits(
        tool.parameters, said
    ):
        arguments = said
    return Called(f"call_{conversation.digest[:24]}", tool.name, arguments)


def _offered(conversation: Conversation, name: str | None) -> Tool | None:
    return next((tool for tool in conversation.tools if tool.name == name), None)


def _first_of_client(conversation: Conversation) -> Tool:
    """The agent's own tools are listed in OpenClaw's system prompt; a client's are not."""
    tooling = _TOOLING.search(conversation.system)
    own = set(_OWN_TOOL.findall(tooling[1])) if tooling else set()
    theirs = [tool for tool in conversation.tools if tool.name not in own]
    return (theirs or list(conversation.tools))[0]


def _object_at(text: str, start: int) -> dict[str, Any] | None:
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _object_in(text: str) -> dict[str, Any] | None:
    for found in re.finditer(r"\{", text):
        if (value := _object_at(text, found.start())) is not None:
            return value
    return None
