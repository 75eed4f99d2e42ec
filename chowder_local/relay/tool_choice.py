"""Turns a tool choice in the system prompt into the provider's own parameter (pure).

OpenClaw's gateway turns a client's `tool_choice` into a sentence of the system prompt, which a
model may ignore. For a call with that sentence the provider's parameter forces a tool call: the
agent may use its own tools first, but cannot answer in text.
"""

from __future__ import annotations

import json
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from chowder_local.relay.prompt_format import (
    HANDED_OVER,
    ONE_AT_A_TIME,
    TOOL_RULE_MARKS,
    find_tool_demand,
)
from chowder_local.relay.wire.wire_format import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.relay.calls import RelayRequest

_MAX_CALLS = 25


def enforce_tool_choice(request: RelayRequest) -> RelayRequest:
    """The call; changed only if its system prompt restricts the choice of tools."""
    # Searching costs less than parsing, and few calls have a mark.
    if not any(mark in request.body for mark in TOOL_RULE_MARKS):
        return request
    try:
        content = request.content
        is_demanded = find_tool_demand(request.system_prompt)[0] and not _is_done(content)
        is_single = ONE_AT_A_TIME in request.system_prompt
        if not content.get("tools") or not (is_demanded or is_single):
            return request
        changes = request.wire.restrict_tools(content, is_demanded=is_demanded, is_single=is_single)
        return request.with_content({**content, **changes})
    except MALFORMED:
        # The provider judges requests of an unknown shape.
        return request


def _is_done(content: Mapping[str, Any]) -> bool:
    """Whether the demand has ended since the latest user message.

    Either the demanded call was made, or the model has made so many others that it seems unable
    to make it.
    """
    turns = content.get("messages") or content.get("input") or content.get("contents")
    latest = list(takewhile(_is_after_user, reversed(turns) if isinstance(turns, list) else []))
    results = [turn for turn in latest if _is_result(turn)]
    is_met = any(HANDED_OVER in json.dumps(turn) for turn in takewhile(_is_result, latest))
    return is_met or len(results) >= _MAX_CALLS


def _is_after_user(turn: Mapping[str, Any]) -> bool:
    return _is_result(turn) or turn.get("role") not in ("user", "system", "developer")


def _is_result(turn: Mapping[str, Any]) -> bool:
    if turn.get("type") == "function_call_output" or turn.get("role") == "tool":
        return True
    parts = turn.get("parts") or turn.get("content")
    return isinstance(parts, list) and all(
        part.get("type") == "tool_result" or "functionResponse" in part for part in parts
    )
