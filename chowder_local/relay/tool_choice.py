"""Tool choices that OpenClaw states in words, put into the model call as what they are (pure).

OpenClaw's gateway hands a client's `tool_choice` on as a sentence of the system prompt, which a
model may overlook. A model call whose system prompt has that sentence is made to end in a tool
call by the provider's own means: the agent may use its own tools first, but not answer in words.
"""

from __future__ import annotations

import json
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from chowder_local.relay.prompt_format.system_prompt import (
    HANDED_OVER,
    ONE_AT_A_TIME,
    TOOL_RULE_MARKS,
    find_tool_demand,
)
from chowder_local.relay.wire.wire_format import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.relay.calls import ModelCall

_MAX_CALLS = 25


def enforce_tool_choice(call: ModelCall) -> ModelCall:
    """The call, changed only if its system prompt restricts the choice of tools."""
    # Parsing costs more than looking, and hardly a call has one of these.
    if not any(mark in call.body for mark in TOOL_RULE_MARKS):
        return call
    try:
        content = call.content
        is_demanded = find_tool_demand(call.system_prompt)[0] and not _is_done(content)
        is_single = ONE_AT_A_TIME in call.system_prompt
        if not content.get("tools") or not (is_demanded or is_single):
            return call
        changes = call.wire.restrict_tools(content, is_demanded=is_demanded, is_single=is_single)
        return call.with_content({**content, **changes})
    except MALFORMED:
        # A shape that we do not know is the provider's to judge.
        return call


def _is_done(content: Mapping[str, Any]) -> bool:
    """Whether nothing is to be demanded any more since the user spoke last.

    Either the call was made, beside one of the agent's own, or there were so many of them that a
    model which finds no way to make it must be let go.
    """
    turns = content.get("messages") or content.get("input") or content.get("contents")
    latest = list(takewhile(_is_not_said, reversed(turns) if isinstance(turns, list) else []))
    results = [turn for turn in latest if _is_result(turn)]
    is_met = any(HANDED_OVER in json.dumps(turn) for turn in takewhile(_is_result, latest))
    return is_met or len(results) >= _MAX_CALLS


def _is_not_said(turn: Mapping[str, Any]) -> bool:
    return _is_result(turn) or turn.get("role") not in ("user", "system", "developer")


def _is_result(turn: Mapping[str, Any]) -> bool:
    if turn.get("type") == "function_call_output" or turn.get("role") == "tool":
        return True
    parts = turn.get("parts") or turn.get("content")
    return isinstance(parts, list) and all(
        part.get("type") == "tool_result" or "functionResponse" in part for part in parts
    )
