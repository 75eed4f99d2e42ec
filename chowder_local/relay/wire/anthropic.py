"""Anthropic's Messages format."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.wire.conversation import (
    AssistantText,
    Conversation,
    PromptTool,
    StreamStep,
    ToolCall,
    ToolChoice,
    ToolResult,
    UserMessage,
    first_limit,
)
from chowder_local.relay.wire.wire_format import (
    CallPiece,
    RequestFormat,
    Usage,
    WireFormat,
    read_count,
    read_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chowder_local.relay.wire.conversation import PromptTurn, Reply

_CHOICES = {"any": "required", "tool": "required", "none": "none"}
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


class Anthropic(WireFormat):
    provider = ModelProvider.ANTHROPIC
    key_header = "x-api-key"
    end_marks = (b"message_stop", b"stop_reason")

    def system_prompt(self, content: Mapping[str, Any]) -> str:
        return read_text(content.get("system"))

    def _find_format(self, path: str, query: str, created: int) -> RequestFormat | None:
        return Messages() if path == "v1/messages" else None

    def restrict_tools(
        self, content: Mapping[str, Any], *, is_demanded: bool, is_single: bool
    ) -> dict[str, Any]:
        choice = dict(content.get("tool_choice") or {"type": "auto"})
        # Anthropic refuses a forced tool call together with thinking.
        is_thinking = (content.get("thinking") or {}).get("type", "disabled") != "disabled"
        if is_demanded and not is_thinking and choice["type"] == "auto":
            choice["type"] = "any"
        if is_single and choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
        return {"tool_choice": choice}

    def _error(self, status: int, message: str) -> dict[str, Any]:
        kind = _ERROR_TYPES.get(status, "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}}

    def _read_message(self, message: Mapping[str, Any]) -> Iterator[str | CallPiece]:
        kind = message.get("type")
        if kind == "message":
            for index, block in enumerate(message["content"]):
                yield from _read_block(index, block)
        elif kind == "content_block_start":
            yield from _read_block(message["index"], message["content_block"])
        elif kind == "content_block_delta":
            delta = message["delta"]
            yield delta.get("text", "")
            if "partial_json" in delta:
                yield CallPiece(message["index"], "", "", delta["partial_json"])

    def _read_finish_reason(self, message: Mapping[str, Any]) -> str | None:
        # Of a whole answer, or of the event before the last.
        reason: str | None = message.get("delta", message).get("stop_reason")
        return reason

    def read_usage(self, counts: Mapping[str, Any]) -> Usage:
        read = read_count(counts, "cache_read_input_tokens")
        written = read_count(counts, "cache_creation_input_tokens")
        kinds = counts.get("cache_creation") or {}
        return Usage(
            # Anthropic's own count leaves out the tokens of the cache.
            input_tokens=read_count(counts, "input_tokens", is_needed=True) + read + written,
            cached_tokens=read,
            cache_write_tokens=written,
            long_cache_write_tokens=min(written, read_count(kinds, "ephemeral_1h_input_tokens")),
            output_tokens=read_count(counts, "output_tokens"),
        )

    def is_end(self, event: Mapping[str, Any]) -> bool:
        return event["type"] == "message_stop" or bool(event["delta"]["stop_reason"])


class Messages(RequestFormat):
    """`POST /v1/messages`."""

    def parse(self, content: Mapping[str, Any]) -> Conversation:
        choice = content.get("tool_choice") or {}
        mode: Any = _CHOICES.get(choice.get("type", "auto"), "auto")
        return Conversation(
            model=str(content.get("model", "")),
            system=read_text(content.get("system")),
            turns=tuple(turn for message in content["messages"] for turn in _turns(message)),
            tools=tuple(
                PromptTool(tool["name"], tool.get("input_schema") or {})
                for tool in content.get("tools") or []
            ),
            choice=ToolChoice(mode, choice.get("name")),
            is_streamed=bool(content.get("stream")),
            max_output_tokens=first_limit(content.get("max_tokens")),
        )

    def render(self, conversation: Conversation, reply: Reply) -> dict[str, Any]:
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

    def stream(
        self, conversation: Conversation, reply: Reply
    ) -> Iterator[dict[str, Any] | StreamStep]:
        message = self.render(conversation, reply)
        usage = message["usage"] | {"output_tokens": 1}
        start = message | {"content": [], "stop_reason": None, "usage": usage}
        yield {"type": "message_start", "message": start}
        for index, block in enumerate(reply.blocks):
            started = _block("" if isinstance(block, str) else replace(block, arguments={}))
            yield {"type": "content_block_start", "index": index, "content_block": started}
            yield from reply.events(block, partial(_delta, index, block))
            yield {"type": "content_block_stop", "index": index}
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": _stop_reason(reply), "stop_sequence": None},
            "usage": {"output_tokens": reply.output_tokens},
        }
        yield {"type": "message_stop"}


def _turns(message: Mapping[str, Any]) -> Iterator[PromptTurn]:
    content: Any = message["content"]
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    blocks: list[dict[str, Any]] = content
    for block in blocks:
        if block["type"] == "tool_use":
            yield ToolCall(block["id"], block["name"], block.get("input") or {})
        elif block["type"] == "tool_result":
            yield ToolResult(block["tool_use_id"], read_text(block.get("content")))
    texts = tuple(block["text"] for block in blocks if block["type"] == "text")
    if texts and message["role"] == "user":
        yield UserMessage(texts)
    elif texts:
        yield AssistantText("\n".join(texts))


def _block(block: str | ToolCall) -> dict[str, Any]:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    # Anthropic's ids have this prefix, which clients may check.
    call_id = block.id.replace("call_", "toolu_")
    return {"type": "tool_use", "id": call_id, "name": block.name, "input": dict(block.arguments)}


def _stop_reason(reply: Reply) -> str:
    if reply.is_cut:
        return "max_tokens"
    return "tool_use" if reply.calls else "end_turn"


def _delta(index: int, block: str | ToolCall, piece: str) -> dict[str, Any]:
    delta = {"type": "text_delta", "text": piece}
    if isinstance(block, ToolCall):
        delta = {"type": "input_json_delta", "partial_json": piece}
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _read_block(index: int, block: Mapping[str, Any]) -> Iterator[str | CallPiece]:
    if block["type"] == "text":
        yield block["text"]
    elif block["type"] == "tool_use":
        arguments = json.dumps(block["input"]) if block.get("input") else ""
        yield CallPiece(index, block["id"], block["name"], arguments)
