"""OpenAI's Chat Completions format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.relay.wire.conversation import (
    AssistantText,
    Conversation,
    Tool,
    ToolCall,
    ToolResult,
    UserMessage,
    first_limit,
)
from chowder_local.relay.wire.openai_responses import read_choice, system_prompt
from chowder_local.relay.wire.reply import StreamStep, split_text
from chowder_local.relay.wire.request_format import RequestFormat
from chowder_local.relay.wire.wire_format import CallPiece, read_text, read_texts, tool_call
from chowder_local.upstream.sse import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chowder_local.relay.wire.conversation import Turn
    from chowder_local.relay.wire.reply import Reply


@dataclass(frozen=True)
class ChatCompletions(RequestFormat):
    """`POST /chat/completions`; `created` is the answer's Unix time in seconds."""

    created: int = 0

    def parse(self, content: Mapping[str, Any]) -> Conversation:
        limit = first_limit(content.get("max_completion_tokens"), content.get("max_tokens"))
        return Conversation(
            model=str(content.get("model", "")),
            system=system_prompt(content),
            turns=tuple(turn for message in content["messages"] for turn in _turns(message)),
            tools=tuple(
                Tool(tool["function"]["name"], tool["function"].get("parameters") or {})
                for tool in content.get("tools") or []
                if tool.get("type") == "function"
            ),
            choice=read_choice(content.get("tool_choice") or "auto"),
            is_streamed=bool(content.get("stream")),
            has_usage_in_stream=bool((content.get("stream_options") or {}).get("include_usage")),
            max_output_tokens=limit,
        )

    def render(self, conversation: Conversation, reply: Reply) -> dict[str, Any]:
        choice = {
            "index": 0,
            "message": _message(reply),
            "logprobs": None,
            "finish_reason": _finish_reason(reply),
        }
        head = self._head(conversation, "chat.completion")
        return head | {"choices": [choice], "usage": _usage(conversation, reply)}

    def stream(
        self, conversation: Conversation, reply: Reply
    ) -> Iterator[dict[str, Any] | bytes | StreamStep]:
        head = self._head(conversation, "chat.completion.chunk")
        for delta in _deltas(reply):
            if isinstance(delta, StreamStep):
                yield delta
            else:
                yield head | {"choices": [_chunk_choice(delta, None)]}
        yield head | {"choices": [_chunk_choice({}, _finish_reason(reply))]}
        if conversation.has_usage_in_stream:
            yield head | {"choices": [], "usage": _usage(conversation, reply)}
        yield encode("[DONE]")

    def _head(self, conversation: Conversation, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{conversation.digest[:29]}",
            "object": kind,
            "created": self.created,
            "model": conversation.model,
        }


def _turns(message: Mapping[str, Any]) -> Iterator[Turn]:
    content = message.get("content")
    if message["role"] == "user":
        yield UserMessage(tuple(read_texts(content)))
    elif message["role"] == "tool":
        yield ToolResult(message["tool_call_id"], read_text(content))
    elif message["role"] == "assistant":
        if content:
            yield AssistantText(read_text(content))
        for call in message.get("tool_calls") or []:
            function = call["function"]
            arguments = function.get("arguments") or ""
            yield tool_call(CallPiece(call["id"], call["id"], function["name"], arguments))


def _usage(conversation: Conversation, reply: Reply) -> dict[str, int]:
    input_tokens, output_tokens = reply.input_tokens(conversation), reply.output_tokens
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def _message(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "refusal": None}
    if not reply.calls:
        return message | {"content": reply.text}
    calls = [_call(each) for each in reply.calls]
    return message | {"content": reply.text or None, "tool_calls": calls}


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments_json}
    return {"id": call.id, "type": "function", "function": function}


def _finish_reason(reply: Reply) -> str:
    if reply.is_cut:
        return "length"
    return "tool_calls" if reply.calls else "stop"


def _chunk_choice(delta: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": reason}


def _deltas(reply: Reply) -> Iterator[dict[str, Any] | StreamStep]:
    if reply.text or not reply.calls:
        yield {"role": "assistant", "content": ""}
        for step in reply.stream():
            yield step if isinstance(step, StreamStep) else {"content": step}
    for index, call in enumerate(reply.calls):
        started = {"index": index, **_call(call)}
        started["function"] = {"name": call.name, "arguments": ""}
        yield {"role": "assistant", "content": None, "tool_calls": [started]}
        for piece in split_text(call.arguments_json):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def read_message(message: Mapping[str, Any]) -> Iterator[str | CallPiece]:
    """The text and tool calls of an answer or a chunk; may raise MALFORMED."""
    for choice in message["choices"]:
        part = choice.get("delta") or choice.get("message") or {}
        yield part.get("content") or ""
        for index, call in enumerate(part.get("tool_calls") or ()):
            key, call_id = call.get("index", index), call.get("id") or ""
            function = call.get("function") or {}
            name, arguments = function.get("name") or "", function.get("arguments") or ""
            yield CallPiece(key, call_id, name, arguments)
