"""Reads OpenClaw's system prompts: the session, the agent's own tools, demanded tool calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_NAME = 200
"""Longer names of models and sessions are not real ones and would only fill the store."""

ANSWER_TOOL = "final_answer"
"""The function by which a structured output is requested."""

ANY_TOOL = "You must call one of the available tools before responding."
ONE_TOOL = "You must call the {} tool before responding."
ONE_AT_A_TIME = "Call at most one tool at a time."
TOOL_RULE_MARKS = (b"before responding.", ONE_AT_A_TIME.encode())
"""Each request whose system prompt restricts the choice of tools contains one of these."""

HANDED_OVER = "Tool execution delegated to client"
"""OpenClaw's placeholder for the result of a function that the client has to call."""

SUMMARIZER = "You are a context summarization assistant."
"""In the system prompt of each request for a summary of a part of a conversation."""
SAVING_SESSION = ":internal-session-effects:"
"""In the key of each session in which an agent saves what it has to remember."""

_DEMAND = re.compile(r"You must call (?:the (\S+) tool|one of the available tools) before resp")
_RUNTIME_MARK = b"Runtime: agent="
# Without quotes, line ends and backslashes, so that it is the same in JSON and in text.
_RUNTIME = re.compile(
    r"Runtime: agent=[^|\"\\\n]* \| session=(?P<key>[^\"\\\n]+?) \| sessionId=(?P<id>[\w-]*)"
)
_TOOLING = "\n## Tooling\n"
_MAX_TOOLING = 64_000
_OWN_TOOL = re.compile(r"^- (\S+?)(?=[:\s]|$)", re.MULTILINE)


class Session(NamedTuple):
    """OpenClaw's key of a session, and the id of its current memory."""

    key: str
    id: str


def find_session(body: bytes, read_system_prompt: Callable[[], str]) -> Session | None:
    """The session of a model request; None if its system prompt does not name one.

    OpenClaw's system prompt ends with a line about its runtime. If the body has several such lines,
    because a message quotes one, the system prompt is parsed, which takes longer.
    """
    first = body.find(_RUNTIME_MARK)
    if first < 0:
        return None
    if body.find(_RUNTIME_MARK, first + 1) < 0:
        # A line of ours is ASCII up to the end of its key.
        text = body[first : first + 4 * LONGEST_NAME].decode("utf-8", "replace")
    else:
        system = read_system_prompt()
        text = system[max(0, system.rfind(_RUNTIME_MARK.decode())) :][: 4 * LONGEST_NAME]
    match = _RUNTIME.match(text)
    if match is None or len(match["key"]) > LONGEST_NAME:
        return None
    return Session(match["key"], match["id"])


def find_tool_demand(system: str) -> tuple[bool, str | None]:
    """Whether a system prompt demands a tool call, and the tool if it names one."""
    match = _DEMAND.search(system)
    return match is not None, match and match[1]


def own_tools(system: str) -> set[str] | None:
    """Names of the agent's own tools; None if OpenClaw's system prompt does not list them."""
    # Without an expression: a system prompt can have megabytes.
    _, heading, section = f"\n{system}".partition(_TOOLING)
    if heading:
        return set(_OWN_TOOL.findall(section[:_MAX_TOOLING].partition("\n## ")[0]))
    return None if "OpenClaw" in system else set()
