"""What OpenClaw's system prompts say: the session, the agent's own tools, demands of tool calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_NAME = 200
"""A longer name of a model or a session is no real one, and would only fill the store."""

ANSWER_TOOL = "final_answer"
"""The function that structured outputs are asked for with."""

ANY_TOOL = "You must call one of the available tools before responding."
ONE_TOOL = "You must call the {} tool before responding."
ONE_AT_A_TIME = "Call at most one tool at a time."
TOOL_RULE_MARKS = (b"before responding.", ONE_AT_A_TIME.encode())
"""One of them is in every request whose system prompt restricts the choice of tools."""

HANDED_OVER = "Tool execution delegated to client"
"""What OpenClaw puts in place of the result of a function that the client has to call."""

SUMMARIZER = "You are a context summarization assistant."
"""What the system prompt of a request says that has a part of a conversation summarized."""
SAVING_SESSION = ":internal-session-effects:"
"""Part of the key of the session in which an agent saves what it has to remember."""

_DEMAND = re.compile(r"You must call (?:the (\S+) tool|one of the available tools) before resp")
_RUNTIME_MARK = b"Runtime: agent="
# As it is written in JSON and in a text alike: no quote, no line's end, no backslash.
_RUNTIME = re.compile(
    r"Runtime: agent=[^|\"\\\n]* \| session=(?P<key>[^\"\\\n]+?) \| sessionId=(?P<id>[\w-]*)"
)
_TOOLING = re.compile(r"^## Tooling$(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_OWN_TOOL = re.compile(r"^- (\S+?)(?=[:\s]|$)", re.MULTILINE)


class Session(NamedTuple):
    """OpenClaw's key of a conversation, and its id of what the agent remembers of it."""

    key: str
    id: str


def find_session(body: bytes, read_system_prompt: Callable[[], str]) -> Session | None:
    """The session that a model request is made for, if it says so.

    OpenClaw ends its system prompt with a line about its own surroundings. A person may quote such
    a line; then the system prompt is read, which takes longer.
    """
    first = body.find(_RUNTIME_MARK)
    if first < 0:
        return None
    if body.find(_RUNTIME_MARK, first + 1) < 0:
        # The line is ASCII up to the key's end, or is none of ours.
        text = body[first : first + 4 * LONGEST_NAME].decode("utf-8", "replace")
    else:
        text = read_system_prompt()
    found = [Session(each["key"], each["id"]) for each in _RUNTIME.finditer(text)]
    return found[-1] if found and len(found[-1].key) <= LONGEST_NAME else None


def find_tool_demand(system: str) -> tuple[bool, str | None]:
    """Whether a system prompt demands a tool call, and of which tool if it says so."""
    found = _DEMAND.search(system)
    return found is not None, found and found[1]


def own_tools(system: str) -> set[str] | None:
    """The agent's own tools; None if OpenClaw's system prompt does not list them."""
    tooling = _TOOLING.search(system)
    if tooling is not None:
        return set(_OWN_TOOL.findall(tooling[1]))
    return None if "OpenClaw" in system else set()
