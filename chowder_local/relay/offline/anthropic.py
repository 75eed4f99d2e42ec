"""Anthropic's Messages format, read and written."""

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
    pieces,
)
from chowder_local.upstream.sse import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chowder_local.relay.offline.conversation import Turn

_CHOICES = {"any": "required", "tool": "required", "none": "none"}


def read(body: Mapping[str, Any]) -> Conversation:
    """What a request to `/v1/messages` asks."""
    choice = body.get("tool_choice") or {}
    mode: Any = _CHOICES.get(choice.get("type", "auto"), "auto")
    return Conversation(
        model=str(body.get("model", "")),
        system=_text(body.get("system")),
        turns=tuple(turn for message in body["messages"] for turn in _turns(message)),
        tools=tuple(
            Tool(tool["name"], tool.get("input_schema") or {}) for tool in body.get("tools") or []
        ),
        choice=Choice(mode, choice.get("name")),
        is_streamed=bool(body.get("stream")),
        digest=digest(body),
        input_tokens=body_tokens(body),
    )


def _turns(message: Mapping[str, Any]) -> Iterator[Turn]:
    content: Any = message["content"]
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    blocks: list[dict[str, Any]] = content
    for block in blocks:
        if block["type"] == "tool_use":
            yield Called(block["id"], block["name"], block.get("input") or {})
        elif block["type"] == "tool_result":
            yield Returned(block["tool_use_id"], _text(block.get("content")))
    texts = tuple(block["text"] for block in blocks if block["type"] == "text")
    if texts and message["role"] == "user":
        yield Said(texts)
    elif texts:
        yield Answered("\n".join(texts))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content or [] if block.get("type") == "text")


def write(conversation: Conversation, reply: Reply) -> Iterator[bytes]:
    """The answer, whole or as events."""
    if not conversation.is_streamed:
        yield json.dumps(_message(conversation, reply)).encode()
        return
    for event in _events(conversation, reply):
        yield encode(json.dumps(event), event["type"])


def _message(conversation: Conversation, reply: Reply) -> dict[str, Any]:
    return {
        "id": f"msg_{conversation.digest[:24]}",
        "type": "message",
        "role": "assistant",
        "model": conversation.model,
        "content": [_block(reply)],
        "stop_reason": _stop_reason(reply),
        "stop_sequence": None,
        "usage": {
            "input_tokens": conversation.input_tokens,
            "output_tokens": reply.output_tokens,
        },
    }


def _block(reply: Reply) -> dict[str, Any]:
    if reply.call is None:
        return {"type": "text", "text": reply.text}
    call = reply.call
    # Anthropic's ids have this beginning, and clients may look at it.
    id_ = call.id.replace("call_", "toolu_")
    return {"type": "tool_use", "id": id_, "name": call.name, "input": dict(call.arguments)}


def _stop_reason(reply: Reply) -> str:
    return "end_turn" if reply.call is None else "tool_use"


def _events(conversation: Conversation, reply: Reply) -> Iterator[dict[str, Any]]:
    message = _message(conversation, reply)
    usage = message["usage"] | {"output_tokens": 1}
    start = message | {"content": [], "stop_reason": None, "usage": usage}
    yield {"type": "message_start", "message": start}
    block = _block(reply)
    block["text" if reply.call is None else "input"] = "" if reply.call is None else {}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    for delta in _deltas(reply):
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": _stop_reason(reply), "stop_sequence": None},
        "usage": {"output_tokens": reply.output_tokens},
    }
    yield {"type": "message_stop"}


def _deltas(reply: Reply) -> Iterator[dict[str, Any]]:
    if reply.call is None:
        for piece in pieces(reply.text):
            yield {"type": "text_delta", "text": piece}
    else:
        for piece in pieces(reply.arguments_json):
            yield {"type": "input_json_delta", "partial_json": piece}
