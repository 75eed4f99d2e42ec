"""From what OpenClaw's gateway answers to what the Responses API promises (pure).

Exact out: the asked-for model's id, the output in the form that was asked for, and every member
that the schema requires.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chowder_local.openclaw.responses.tools import AGENT_BUILT_INS, to_gateway_function

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chowder_local.openclaw.responses.requests import Turn
    from chowder_local.openclaw.responses.structured_outputs import Format

# OpenClaw ends a whole answer with it that met its `max_output_tokens`, and no stream; the status
# says so without it.
_NOTICE = re.compile(r"\n\n⚠️ Reply truncated at the model's output token limit\.[^\n]*\Z")
_TRUNCATIONS = ("auto", "disabled")
_EFFORTS = ("none", "low", "medium", "high", "xhigh")
_SUMMARIES = ("concise", "detailed", "auto")
_MODES = ("none", "auto", "required")


def normalize_output(response: Mapping[str, Any], turn: Turn) -> dict[str, Any]:
    """The gateway's answer with the output that the client asked for. Raises AnswerUnfit."""
    output = [with_client_name(each, turn.names) for each in response.get("output", [])]
    if response.get("status") == "incomplete":
        output = [_without_notice(each) for each in output]
    calls = [each for each in output if each["type"] == "function_call"]
    # Where a stream was to begin with words, there is a message even if none came.
    messages = [each for each in output if each["type"] != "function_call" and _text_of(each)]
    if turn.format is not None and response.get("status") == "completed":
        calls, messages = _formatted(calls, messages, turn.format, f"msg_{response.get('id')}")
    return {**response, "output": [*messages, *(calls[:1] if turn.is_single else calls)]}


def _without_notice(given: dict[str, Any]) -> dict[str, Any]:
    """An item of an answer that was cut off, as a stream has it: with the model's words alone."""
    if given.get("type") != "message":
        return given
    content = [
        part | {"text": _NOTICE.sub("", part.get("text", ""))} if "text" in part else part
        for part in given.get("content", [])
    ]
    return given | {"content": content}


def with_client_name(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """An output item; a call goes by the client's name of the function."""
    if given.get("type") != "function_call":
        return dict(given)
    name = given.get("name", "")
    return {**given, "name": names.get(name, name)}


def _formatted(
    calls: list[dict[str, Any]], messages: list[dict[str, Any]], form: Format, id_: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The calls of a client's functions, or else the answer as a message of JSON alone."""
    answers = [each.get("arguments") or "" for each in calls if each["name"] == form.tool["name"]]
    others = [each for each in calls if each["name"] != form.tool["name"]]
    if others:
        return others, messages
    if answers:
        answer: str | None = form.from_arguments(answers[-1])
        text = ""
    else:
        text = "".join(map(_text_of, messages))
        answer = form.from_text(text)
    # Whoever says in words what was asked for in JSON will not do it.
    content = (
        {"type": "refusal", "refusal": text}
        if answer is None
        else {"type": "output_text", "text": answer}
    )
    message = {"type": "message", "id": id_, "role": "assistant", "status": "completed"}
    return [], [{**message, "content": [content]}]


def _text_of(message: Mapping[str, Any]) -> str:
    return "".join(each.get("text", "") for each in message.get("content", []))


def normalize(
    response: Mapping[str, Any], requested: Mapping[str, Any], now_s: int
) -> dict[str, Any]:
    """A whole Responses resource for the request that `asked` was, if it ends at `now_s`."""
    # An explicit null asks for the default, as leaving it out does.
    requested = {key: value for key, value in requested.items() if value is not None}
    status = response.get("status")
    is_over = status in {"completed", "incomplete", "failed"}
    # What people read comes first; the rest is there because the schema requires it.
    whole: dict[str, Any] = {
        "id": None,
        "object": "response",
        "created_at": now_s,
        "status": status,
        "model": None,
        "output": [],
        "usage": None,
        "error": None,
        "incomplete_details": None,
        "instructions": requested.get("instructions"),
        "max_output_tokens": requested.get("max_output_tokens"),
        "max_tool_calls": requested.get("max_tool_calls"),
        "metadata": requested.get("metadata") or {},
        "parallel_tool_calls": requested.get("parallel_tool_calls", True),
        "previous_response_id": requested.get("previous_response_id"),
        "prompt_cache_key": requested.get("prompt_cache_key"),
        "reasoning": _reasoning(requested.get("reasoning") or {}),
        "safety_identifier": requested.get("safety_identifier"),
        "service_tier": requested.get("service_tier") or "default",
        "store": requested.get("store", True),
        "background": False,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "temperature": requested.get("temperature", 1.0),
        "text": _text(requested.get("text") or {}),
        "tool_choice": _tool_choice(requested.get("tool_choice", "auto")),
        "tools": list(_tools(requested.get("tools") or [])),
        "top_logprobs": 0,
        "top_p": requested.get("top_p", 1.0),
        "truncation": _one_of(requested.get("truncation"), _TRUNCATIONS) or "disabled",
        "completed_at": now_s if is_over else None,
    }
    whole |= {key: value for key, value in response.items() if value is not None}
    whole["model"] = requested["model"]
    whole["output"] = [complete_item(each) for each in response.get("output", [])]
    whole["usage"] = _usage(response.get("usage")) if is_over else None
    return whole


def complete_item(given: Mapping[str, Any]) -> dict[str, Any]:
    """An output item with the members that the schema requires."""
    whole = {key: value for key, value in given.items() if key != "phase"}
    whole.setdefault("status", "completed")
    if whole.get("type") == "message":
        whole["content"] = [complete_part(each) for each in whole.get("content", [])]
    return whole


def complete_part(given: Mapping[str, Any]) -> dict[str, Any]:
    """A content part with the members that the schema requires."""
    if given.get("type") != "output_text":
        return dict(given)
    return {"annotations": [], "logprobs": [], **given}


def _reasoning(requested: Mapping[str, Any]) -> dict[str, Any] | None:
    effort = _one_of(requested.get("effort"), _EFFORTS)
    summary = _one_of(requested.get("summary"), _SUMMARIES)
    return {"effort": effort, "summary": summary} if effort or summary else None


def _tools(requested: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for tool in requested:
        # Only functions have a place in the published schema.
        if tool.get("type") not in AGENT_BUILT_INS and (given := to_gateway_function(tool)):
            yield {"description": None, "parameters": None, "strict": None, **given}


def _tool_choice(requested: Any) -> Any:
    """The choice as the Responses API writes it; some clients write it as Chat Completions does."""
    if not isinstance(requested, dict):
        return requested
    kind = str(requested.get("type"))
    inner = requested[kind] if isinstance(requested.get(kind), dict) else requested
    if kind == "function":
        return {"type": kind, "name": inner.get("name")}
    tools = [
        {"type": "function", "name": tool["name"]} for tool in _tools(inner.get("tools") or [])
    ]
    return {"type": kind, "mode": _one_of(inner.get("mode"), _MODES) or "auto", "tools": tools}


def _text(requested: Mapping[str, Any]) -> dict[str, Any]:
    given = requested.get("format") or {"type": "text"}
    whole = {key: value for key, value in requested.items() if value is not None}
    if given.get("type") == "json_schema":
        # Chat Completions has it one level deeper.
        inner = given.get("json_schema")
        given = {"description": None, **(inner if isinstance(inner, dict) else given)}
        given |= {"type": "json_schema", "strict": bool(given.get("strict"))}
    return {**whole, "format": given}


def _one_of(requested: Any, understood: tuple[str, ...]) -> str | None:
    return requested if requested in understood else None


def _usage(given: Mapping[str, Any] | None) -> dict[str, Any]:
    usage = given or {}
    tokens_in, tokens_out = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    cached = usage.get("input_tokens_details") or {}
    reasoned = (usage.get("output_tokens_details") or {}).get("reasoning_tokens", 0)
    return {
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "total_tokens": usage.get("total_tokens", tokens_in + tokens_out),
        # Written ones are OpenAI's own addition to the published schema.
        "input_tokens_details": {
            "cached_tokens": cached.get("cached_tokens", 0),
            "cache_write_tokens": cached.get("cache_write_tokens", 0),
        },
        "output_tokens_details": {"reasoning_tokens": reasoned},
    }
