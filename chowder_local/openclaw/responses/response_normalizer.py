"""Normalizes the gateway's responses to the Responses API's schema (pure).

A normalized response has the requested model's id, the output in the requested form, and every
member that the schema requires.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field

from chowder_local.openclaw.responses.tools import to_gateway_function

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chowder_local.openclaw.responses.requests import GatewayRequest
    from chowder_local.openclaw.responses.tools import Format

MAX_ANSWER_BYTES = 1_500_000
"""For an answer, and for an event of a stream; 128,000 tokens of a model are half a megabyte."""
MAX_ANSWER_VALUES = 10_000
"""So many are checked and translated within 50 ms."""
ID_CHARACTERS = 256

Element = TypeVar("Element")
# Without this, pydantic makes an error for each of the elements.
FailFastList = Annotated[list[Element], FailFast()]


class _Shape(BaseModel):
    """Declared members must have these types if they are present; other members are ignored."""

    model_config = ConfigDict(strict=True)


class _Part(_Shape):
    type: str
    text: str = ""
    refusal: str = ""


class _Item(_Shape):
    type: str
    id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: FailFastList[_Part] = []


class _Usage(_Shape):
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: dict[str, Any] | None = None
    output_tokens_details: dict[str, Any] | None = None


class _Response(_Shape):
    # The traces of thousands of answers keep the id, so its length is limited.
    id: Annotated[str, Field(max_length=ID_CHARACTERS)] | None = None
    status: str | None = None
    output: FailFastList[_Item] = []
    usage: _Usage | None = None
    error: dict[str, Any] | None = None


class _Event(_Shape):
    type: str
    response: _Response = _Response()
    item: _Item = _Item(type="")
    part: _Part = _Part(type="")
    delta: str = ""
    text: str = ""
    output_index: int = 0


def check_response(value: dict[str, Any]) -> None:
    """Raises ValueError if a response's members have wrong types."""
    _Response.model_validate(value)


def check_event(value: dict[str, Any]) -> None:
    """Raises ValueError if the members of a stream's event have wrong types."""
    _Event.model_validate(value)


# OpenClaw appends this to an answer that reached `max_output_tokens`, but not to a stream. The
# status says the same.
_NOTICE = re.compile(r"\n\n⚠️ Reply truncated at the model's output token limit\.[^\n]*\Z")
_TRUNCATIONS = ("auto", "disabled")
_EFFORTS = ("none", "low", "medium", "high", "xhigh")
_SUMMARIES = ("concise", "detailed", "auto")
_MODES = ("none", "auto", "required")


def normalize_output(response: Mapping[str, Any], turn: GatewayRequest) -> dict[str, Any]:
    """A response with the requested form of output. Raises AnswerUnfit if it does not fit."""
    output = [to_client_item(each, turn.names) for each in response.get("output", [])]
    if response.get("status") == "incomplete":
        output = [_without_notice(each) for each in output]
    calls = [each for each in output if each["type"] == "function_call"]
    # The gateway adds an empty message to an answer that has only calls.
    messages = [each for each in output if each["type"] != "function_call" and _text_of(each)]
    if turn.format is not None and response.get("status") == "completed":
        calls, messages = _formatted(calls, messages, turn.format, f"msg_{response.get('id')}")
    return {**response, "output": [*messages, *(calls[:1] if turn.is_single else calls)]}


def _without_notice(item: dict[str, Any]) -> dict[str, Any]:
    """An item of a truncated answer without OpenClaw's notice, as a stream has it."""
    if item.get("type") != "message":
        return item
    content = [
        part | {"text": _NOTICE.sub("", part.get("text", ""))} if "text" in part else part
        for part in item.get("content", [])
    ]
    return item | {"content": content}


def to_client_item(item: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """An output item; a call has the client's name of the function, and ids of OpenAI's form.

    Some clients rename other ids. `inputs.to_gateway_call_id` takes both back to OpenClaw's own.
    """
    if item.get("type") != "function_call":
        return dict(item)
    name, call_id = item.get("name", ""), item.get("call_id") or item.get("id")
    ids = {"id": f"fc_{call_id}", "call_id": f"call_{call_id}"}
    return {**item, **ids, "name": names.get(name, name)}


def _formatted(
    calls: list[dict[str, Any]], messages: list[dict[str, Any]], form: Format, id_: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The calls of a client's functions; without any, the answer as one JSON message."""
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
    # A model that answers in prose where JSON is required has refused.
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
    """A complete Response resource for the request `requested` at the time `now_s`."""
    # An explicit null means the default, like a missing member.
    requested = {key: value for key, value in requested.items() if value is not None}
    status = response.get("status")
    is_over = status in {"completed", "incomplete", "failed"}
    # The members that people read come first; the schema requires the rest.
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


def complete_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """An output item with the members that the schema requires."""
    whole = {key: value for key, value in item.items() if key != "phase"}
    whole.setdefault("status", "completed")
    if whole.get("type") == "message":
        whole["content"] = [complete_part(each) for each in whole.get("content", [])]
    return whole


def complete_part(part: Mapping[str, Any]) -> dict[str, Any]:
    """A content part with the members that the schema requires."""
    if part.get("type") != "output_text":
        return dict(part)
    return {"annotations": [], "logprobs": [], **part}


def _reasoning(requested: Mapping[str, Any]) -> dict[str, Any] | None:
    effort = _one_of(requested.get("effort"), _EFFORTS)
    summary = _one_of(requested.get("summary"), _SUMMARIES)
    return {"effort": effort, "summary": summary} if effort or summary else None


def _tools(requested: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for tool in requested:
        # The published schema has only functions, so `to_gateway_function` drops the others.
        if function := to_gateway_function(tool):
            yield {"description": None, "parameters": None, "strict": None, **function}


def _tool_choice(requested: Any) -> Any:
    """The choice in the Responses API's form; some clients send that of Chat Completions."""
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
    text_format = requested.get("format") or {"type": "text"}
    whole = {key: value for key, value in requested.items() if value is not None}
    if text_format.get("type") == "json_schema":
        # Chat Completions nests it one level deeper.
        inner = text_format.get("json_schema")
        text_format = {"description": None, **(inner if isinstance(inner, dict) else text_format)}
        text_format |= {"type": "json_schema", "strict": bool(text_format.get("strict"))}
    return {**whole, "format": text_format}


def _one_of(requested: Any, allowed: tuple[str, ...]) -> str | None:
    return requested if requested in allowed else None


def _usage(reported: Mapping[str, Any] | None) -> dict[str, Any]:
    usage = reported or {}
    tokens_in, tokens_out = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    input_details = usage.get("input_tokens_details") or {}
    reasoning_tokens = (usage.get("output_tokens_details") or {}).get("reasoning_tokens", 0)
    return {
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "total_tokens": usage.get("total_tokens", tokens_in + tokens_out),
        # OpenAI has added `cache_write_tokens` to the published schema.
        "input_tokens_details": {
            "cached_tokens": input_details.get("cached_tokens", 0),
            "cache_write_tokens": input_details.get("cache_write_tokens", 0),
        },
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
    }
