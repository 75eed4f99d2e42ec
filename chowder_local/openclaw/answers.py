"""From what OpenClaw's gateway answers to what the Responses API promises (pure).

Exact out: the asked-for model's id, and every member that the schema requires, in the whole
answer and in each event of a stream.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.errors import StreamBroken
from chowder_local.openclaw.requests import EFFORTS
from chowder_local.upstream import sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DONE = "[DONE]"

_TEXT_EVENTS = {"response.output_text.delta", "response.output_text.done"}
_TRUNCATIONS = ("auto", "disabled")


def resource(response: Mapping[str, Any], asked: Mapping[str, Any], now_s: int) -> dict[str, Any]:
    """A whole Responses resource for the request that `asked` was, if it ends at `now_s`."""
    # An explicit null asks for the default, as leaving it out does.
    asked = {key: value for key, value in asked.items() if value is not None}
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
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "max_tool_calls": asked.get("max_tool_calls"),
        "metadata": asked.get("metadata") or {},
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "previous_response_id": asked.get("previous_response_id"),
        "prompt_cache_key": asked.get("prompt_cache_key"),
        "reasoning": _reasoning(asked.get("reasoning") or {}),
        "safety_identifier": asked.get("safety_identifier"),
        "service_tier": asked.get("service_tier") or "default",
        "store": asked.get("store", True),
        "background": False,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "temperature": asked.get("temperature", 1.0),
        "text": _without_nulls({"format": {"type": "text"}}, asked.get("text") or {}),
        "tool_choice": _tool_choice(asked.get("tool_choice", "auto")),
        "tools": [_tool(tool) for tool in asked.get("tools") or []],
        "top_logprobs": 0,
        "top_p": asked.get("top_p", 1.0),
        "truncation": _one_of(asked.get("truncation"), _TRUNCATIONS) or "disabled",
        "completed_at": now_s if is_over else None,
    }
    whole |= {key: value for key, value in response.items() if value is not None}
    whole["model"] = asked["model"]
    whole["output"] = [item(each) for each in response.get("output", [])]
    whole["usage"] = _usage(response.get("usage")) if is_over else None
    return whole


def item(given: Mapping[str, Any]) -> dict[str, Any]:
    """An output item with the members that the schema requires."""
    whole = {key: value for key, value in given.items() if key != "phase"}
    whole.setdefault("status", "completed")
    if whole.get("type") == "message":
        whole["content"] = [part(each) for each in whole.get("content", [])]
    return whole


def part(given: Mapping[str, Any]) -> dict[str, Any]:
    """A content part with the members that the schema requires."""
    if given.get("type") != "output_text":
        return dict(given)
    return {"annotations": [], "logprobs": [], **given}


class EventWriter:
    """Rewrites the events of one stream, one after the other.

    `reword` turns the error of a failed response into the one that the client shall see.
    """

    def __init__(
        self,
        asked: Mapping[str, Any],
        clock_s: Callable[[], float],
        reword: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    ) -> None:
        self._asked = asked
        self._clock_s = clock_s
        self._reword = reword
        self._sequence_number = 0
        self.is_over = False
        """Whether the stream has ended as it should; else it broke off."""

    def write(self, data: str) -> bytes:
        """The bytes that go to the client for one event's data. Raises StreamBroken."""
        if data == DONE:
            self.is_over = True
            return sse.encode(data)
        return b"".join(self._numbered(event) for event in _expanded(_event(data)))

    def _numbered(self, event: dict[str, Any]) -> bytes:
        self._complete(event)
        event["sequence_number"] = self._sequence_number
        self._sequence_number += 1
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        return sse.encode(text, event["type"])

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The closing event of a stream whose gateway broke off."""
        # Open Responses nests what OpenAI's own clients have always found at the top.
        event = {"type": "error", "sequence_number": self._sequence_number, **error}
        event["error"] = {"type": "server_error", **error}
        return sse.encode(json.dumps(event), "error") + sse.encode(DONE)

    def _complete(self, event: dict[str, Any]) -> None:
        if "response" in event:
            response = event["response"]
            if response.get("error"):
                response = response | {"error": self._reword(response["error"])}
            event["response"] = resource(response, self._asked, int(self._clock_s()))
        if "item" in event:
            event["item"] = item(event["item"])
        if "part" in event:
            event["part"] = part(event["part"])
        if event["type"] in _TEXT_EVENTS:
            event.setdefault("logprobs", [])


def _expanded(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The event; the start of a function call is followed by its arguments' own events.

    The gateway has them whole in the first one, where no SDK looks for them.
    """
    call = event.get("item") or {}
    if event["type"] != "response.output_item.added" or call.get("type") != "function_call":
        yield event
        return
    arguments = call.get("arguments") or ""
    where = {"item_id": call.get("id"), "output_index": event.get("output_index")}
    kind = "response.function_call_arguments"
    yield event | {"item": {**call, "arguments": "", "status": "in_progress"}}
    yield {"type": f"{kind}.delta", **where, "delta": arguments}
    yield {"type": f"{kind}.done", **where, "name": call.get("name"), "arguments": arguments}


def _event(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise StreamBroken("the sandbox sent something else than an event")
    return event


def _reasoning(asked: Mapping[str, Any]) -> dict[str, Any] | None:
    effort = _one_of(asked.get("effort"), EFFORTS)
    return None if effort is None else {"effort": effort, "summary": None}


def _tool(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": None, "parameters": None, "strict": None, **asked}


def _tool_choice(asked: Any) -> Any:
    """The choice as the Responses API writes it; some clients write it as Chat Completions does."""
    if isinstance(asked, dict) and "function" in asked:
        return {"type": "function", "name": asked["function"].get("name")}
    return asked


def _without_nulls(default: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    return {**default, **{key: value for key, value in asked.items() if value is not None}}


def _one_of(asked: Any, understood: tuple[str, ...]) -> str | None:
    return asked if asked in understood else None


def _usage(given: Mapping[str, Any] | None) -> dict[str, Any]:
    usage = given or {}
    tokens_in, tokens_out = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    cached = (usage.get("input_tokens_details") or {}).get("cached_tokens", 0)
    reasoned = (usage.get("output_tokens_details") or {}).get("reasoning_tokens", 0)
    return {
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "total_tokens": usage.get("total_tokens", tokens_in + tokens_out),
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens_details": {"reasoning_tokens": reasoned},
    }
