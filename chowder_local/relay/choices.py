"""Tool choices that OpenClaw tells a model in words, put into the model call as what they are.

OpenClaw's gateway hands a client's `tool_choice` on as a sentence of the system prompt, which a
model may overlook. A model call whose system prompt has that sentence is made to end in a tool
call by the provider's own means: the agent may use its own tools first, but not answer in words.
"""

from __future__ import annotations

import json
import re
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ModelProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ANSWER_TOOL = "final_answer"
"""The function that structured outputs are asked for with."""

ANY_TOOL = "You must call one of the available tools before responding."
ONE_TOOL = "You must call the {} tool before responding."
ONE_AT_A_TIME = "Call at most one tool at a time."

HANDED_OVER = "Tool execution delegated to client"
"""What OpenClaw puts in place of the result of a function that the client has to call."""

_DEMAND = re.compile(r"You must call (?:the (\S+) tool|one of the available tools) before resp")
_MARKS = (b"before responding.", ONE_AT_A_TIME.encode())
_MAX_CALLS = 25


def demanded(system: str) -> tuple[bool, str | None]:
    """Whether a system prompt demands a tool call, and of which tool if it says so."""
    found = _DEMAND.search(system)
    return found is not None, found and found[1]


def insisted(provider: ModelProvider, body: bytes) -> bytes:
    """The body of a model call, changed only if its system prompt restricts the choice of tools."""
    # Parsing costs more than looking, and hardly a call has one of these.
    if not any(mark in body for mark in _MARKS):
        return body
    try:
        call = json.loads(body)
        system = system_prompt(provider, call)
        is_demanded = demanded(system)[0] and not _is_done(call)
        is_single = ONE_AT_A_TIME in system
        if not call.get("tools") or not (is_demanded or is_single):
            return body
        _WRITERS[provider](call, is_demanded=is_demanded, is_single=is_single)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # A shape that we do not know is the provider's to judge.
        return body
    return json.dumps(call, ensure_ascii=False, separators=(",", ":")).encode()


def system_prompt(provider: ModelProvider, call: Mapping[str, Any]) -> str:
    """The system prompt of a model call, part by part; may raise anything for a strange one."""
    return "\n".join(_SYSTEMS[provider](call))


def _is_done(call: Mapping[str, Any]) -> bool:
    """Whether nothing is to be demanded any more since the user spoke last.

    Either the call was made, beside one of the agent's own, or there were so many of them that a
    model which finds no way to make it must be let go.
    """
    turns = call.get("messages") or call.get("input") or call.get("contents")
    latest = list(takewhile(_is_not_said, reversed(turns) if isinstance(turns, list) else []))
    results = [turn for turn in latest if _is_result(turn)]
    is_met = any(HANDED_OVER in json.dumps(turn) for turn in takewhile(_is_result, latest))
    return is_met or len(results) >= _MAX_CALLS


def _is_not_said(turn: Mapping[str, Any]) -> bool:
    return _is_result(turn) or turn.get("role") not in ("user", "system", "developer")


def _is_result(turn: Mapping[str, Any]) -> bool:
    """Whether a turn is nothing but results of tools."""
    if turn.get("type") == "function_call_output" or turn.get("role") == "tool":
        return True
    parts = turn.get("parts") or turn.get("content")
    return isinstance(parts, list) and all(
        part.get("type") == "tool_result" or "functionResponse" in part for part in parts
    )


def _anthropic(call: dict[str, Any], *, is_demanded: bool, is_single: bool) -> None:
    choice = dict(call.get("tool_choice") or {"type": "auto"})
    # Anthropic refuses to force a model that thinks.
    is_thinking = (call.get("thinking") or {}).get("type", "disabled") != "disabled"
    if is_demanded and not is_thinking and choice["type"] == "auto":
        choice["type"] = "any"
    if is_single and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    call["tool_choice"] = choice


def _openai(call: dict[str, Any], *, is_demanded: bool, is_single: bool) -> None:
    if is_demanded and call.get("tool_choice") in (None, "auto"):
        call["tool_choice"] = "required"
    if is_single:
        call["parallel_tool_calls"] = False


def _gemini(call: dict[str, Any], *, is_demanded: bool, is_single: bool) -> None:
    # There is no way to ask Gemini for one call at a time.
    if not is_demanded:
        return
    config = call.setdefault("toolConfig", {}).setdefault("functionCallingConfig", {})
    if config.get("mode", "AUTO") == "AUTO":
        config["mode"] = "ANY"


def _anthropic_system(call: Mapping[str, Any]) -> Iterator[str]:
    yield from _texts(call.get("system"))


def _openai_system(call: Mapping[str, Any]) -> Iterator[str]:
    yield from _texts(call.get("instructions"))
    items = call.get("input") or call.get("messages")
    for item in items if isinstance(items, list) else []:
        if item.get("role") in ("system", "developer"):
            yield from _texts(item.get("content"))


def _gemini_system(call: Mapping[str, Any]) -> Iterator[str]:
    system = call.get("systemInstruction") or call.get("system_instruction") or {}
    yield from _texts(system.get("parts"))


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif content:
        yield from (part["text"] for part in content if isinstance(part.get("text"), str))


_SYSTEMS: Mapping[ModelProvider, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    ModelProvider.ANTHROPIC: _anthropic_system,
    ModelProvider.OPENAI: _openai_system,
    ModelProvider.GEMINI: _gemini_system,
}
_WRITERS: Mapping[ModelProvider, Callable[..., None]] = {
    ModelProvider.ANTHROPIC: _anthropic,
    ModelProvider.OPENAI: _openai,
    ModelProvider.GEMINI: _gemini,
}
