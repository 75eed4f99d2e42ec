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
    limit_of,
    pieces,
)
from chowder_local.relay.offline.stream_steps import StreamStep
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
        max_output_tokens=limit_of(body.get("max_tokens")),
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


def write(conversation: Conversation, reply: Reply) -> Iterator[bytes | StreamStep]:
    """The answer, whole or as events."""
    if not conversation.is_streamed:
        yield from reply.interruptions()
        yield json.dumps(_message(conversation, reply)).encode()
        return
    for event in _events(conversation, reply):
        yield event if isinstance(event, StreamStep) else encode(json.dumps(event), event["type"])


def _message(conversation: Conversation, reply: Reply) -> dict[str, Any]:
    return {
        "id": f"msg_{conversation.digest[:24]}",
        "type": "message",
        "role": "assistant",
        "model": conversation.model,
        "content": [_block(each) for each in reply.blocks],
        "stop_reason": _stop_reason(reply),
        "stop_sequence": None,
        "usage": {
            "input_tokens": reply.input_tokens(conversation),
            "output_tokens": reply.output_tokens,
        },
    }


def _block(each: str | Called) -> dict[str, Any]:
    if isinstance(each, str):
        return {"type": "text", "text": each}
    # Anthropic's ids have this beginning, and clients may look at it.
    id_ = each.id.replace("call_", "toolu_")
    return {"type": "tool_use", "id": id_, "name": each.name, "input": dict(each.arguments)}


def _stop_reason(reply: Reply) -> str:
    if reply.is_cut:
        return "max_tokens"
    return "tool_use" if reply.calls else "end_turn"


def _events(conversation: Conversation, reply: Reply) -> Iterator[dict[str, Any] | StreamStep]:
    message = _message(conversation, reply)
    usage = message["usage"] | {"output_tokens": 1}
    start = message | {"content": [], "stop_reason": None, "usage": usage}
    yield {"type": "message_start", "message": start}
    for index, each in enumerate(reply.blocks):
        begun = _block(each)
        begun["text" if isinstance(each, str) else "input"] = "" if isinstance(each, str) else {}
        yield {"type": "content_block_start", "index": index, "content_block": begun}
        for delta in _deltas(reply, each):
            if isinstance(delta, StreamStep):
                yield delta
            else:
                yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": _stop_reason(reply), "stop_sequence": None},
        "usage": {"output_tokens": reply.output_tokens},
    }
    yield {"type": "message_stop"}


def _deltas(reply: Reply, each: str | Called) -> Iterator[dict[str, Any] | StreamStep]:
    if isinstance(each, Called):
        for piece in pieces(each.arguments_json):
            yield {"type": "input_json_delta", "partial_json": piece}
        return
    for step in reply.streamed():
        yield step if isinstance(step, StreamStep) else {"type": "text_delta", "text": step}
