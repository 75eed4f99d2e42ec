"""OpenAI's Responses format, read and written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.relay.offline.conversation import (
    Answered,
    Called,
    Choice,
    Conversation,
    Reply,
    Returned,
    Said,
    Tool,
    body_tokens,
    digest,
    limit_of,
    pieces,
)
from chowder_local.relay.offline.stream_steps import StreamStep
from chowder_local.upstream.sse import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chowder_local.relay.offline.conversation import Turn

_SYSTEM_ROLES = frozenset({"system", "developer"})


def read(body: Mapping[str, Any]) -> Conversation:
    """What a request to `/responses` asks."""
    given = body["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    told = [_text(item.get("content")) for item in items if item.get("role") in _SYSTEM_ROLES]
    return Conversation(
        model=str(body.get("model", "")),
        system="\n\n".join(filter(None, [body.get("instructions"), *told])),
        turns=tuple(turn for item in items for turn in _turns(item)),
        tools=tuple(
            Tool(tool["name"], tool.get("parameters") or {})
            for tool in body.get("tools") or []
            if tool.get("type") == "function"
        ),
        choice=_choice(body.get("tool_choice") or "auto"),
        is_streamed=bool(body.get("stream")),
        digest=digest(body),
        input_tokens=body_tokens(body),
        max_output_tokens=limit_of(body.get("max_output_tokens")),
    )


def _choice(choice: Any) -> Choice:
    if isinstance(choice, dict):
        return Choice("required", choice.get("name"))
    return Choice(choice if choice in {"none", "required"} else "auto")


def _turns(item: Mapping[str, Any]) -> Iterator[Turn]:
    kind = item.get("type", "message")
    if kind == "function_call":
        yield Called(item["call_id"], item["name"])
    elif kind == "function_call_output":
        yield Returned(item["call_id"], _text(item["output"]))
    elif kind == "message" and item["role"] == "user":
        content = item["content"]
        yield Said((content,) if isinstance(content, str) else tuple(_texts(content)))
    elif kind == "message" and item["role"] == "assistant":
        yield Answered(_text(item["content"]))


def _texts(parts: Any) -> list[str]:
    return [part["text"] for part in parts or [] if isinstance(part.get("text"), str)]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(_texts(content))


def write(conversation: Conversation, reply: Reply, created: int) -> Iterator[bytes | StreamStep]:
    """The answer, whole or as events."""
    if not conversation.is_streamed:
        yield from reply.interruptions()
        yield json.dumps(_response(conversation, reply, created, _last_status(reply))).encode()
        return
    number = 0
    for event in _events(conversation, reply, created):
        if isinstance(event, StreamStep):
            yield event
            continue
        yield encode(json.dumps(event | {"sequence_number": number}), event["type"])
        number += 1


def _last_status(reply: Reply) -> str:
    return "incomplete" if reply.is_cut else "completed"


def _response(
    conversation: Conversation, reply: Reply, created: int, status: str
) -> dict[str, Any]:
    is_over = status != "in_progress"
    read_tokens = reply.input_tokens(conversation)
    usage = {
        "input_tokens": read_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read_tokens + reply.output_tokens,
    }
    items = [_item(conversation, number, each, status) for number, each in enumerate(reply.blocks)]
    return {
        "id": f"resp_{conversation.digest[:48]}",
        "object": "response",
        "created_at": created,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "model": conversation.model,
        "output": items if is_over else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if is_over else None,
    }


def _item(
    conversation: Conversation, number: int, each: str | Called, status: str
) -> dict[str, Any]:
    is_over = status != "in_progress"
    # The first one's id needs no number to be its own.
    id_ = conversation.digest[:48] + (f"_{number}" if number else "")
    if isinstance(each, Called):
        return {
            "type": "function_call",
            "id": f"fc_{id_}",
            "call_id": each.id,
            "name": each.name,
            "arguments": each.arguments_json if is_over else "",
            "status": status,
        }
    return {
        "type": "message",
        "id": f"msg_{id_}",
        "role": "assistant",
        "content": [_part(each)] if is_over else [],
        "status": status,
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _events(
    conversation: Conversation, reply: Reply, created: int
) -> Iterator[dict[str, Any] | StreamStep]:
    begun, status = _response(conversation, reply, created, "in_progress"), _last_status(reply)
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for number, each in enumerate(reply.blocks):
        item = _item(conversation, number, each, "in_progress")
        yield {"type": "response.output_item.added", "output_index": number, "item": item}
        place = {"item_id": item["id"], "output_index": number}
        if isinstance(each, Called):
            yield from _call_events(each, place)
        else:
            yield from _text_events(reply, place)
        item = _item(conversation, number, each, status)
        yield {"type": "response.output_item.done", "output_index": number, "item": item}
    whole = _response(conversation, reply, created, status)
    yield {"type": f"response.{status}", "response": whole}


def _text_events(reply: Reply, place: Mapping[str, Any]) -> Iterator[dict[str, Any] | StreamStep]:
    where = {**place, "content_index": 0}
    yield {"type": "response.content_part.added", **where, "part": _part("")}
    for step in reply.streamed():
        if isinstance(step, StreamStep):
            yield step
        else:
            yield {"type": "response.output_text.delta", **where, "delta": step, "logprobs": []}
    yield {"type": "response.output_text.done", **where, "text": reply.text, "logprobs": []}
    yield {"type": "response.content_part.done", **where, "part": _part(reply.text)}


def _call_events(call: Called, place: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    arguments = call.arguments_json
    for piece in pieces(arguments):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
    done = {"type": "response.function_call_arguments.done", "arguments": arguments}
    yield {**done, **place, "name": call.name}
