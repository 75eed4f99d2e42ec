"""OpenAI's formats: Responses, Chat Completions and embeddings."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
from dataclasses import dataclass
from itertools import count
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
    count_tokens,
    first_limit,
    split_text,
)
from chowder_local.relay.wire.wire_format import (
    CallPiece,
    RequestFormat,
    Usage,
    WireFormat,
    bearer,
    read_bearer,
    read_count,
    read_text,
    read_texts,
    tool_call,
)
from chowder_local.upstream.sse import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chowder_local.relay.wire.conversation import PromptTurn, Reply

_DIMENSIONS = 64
MAX_NUMBERS = 200_000
_SYSTEM_ROLES = frozenset({"system", "developer"})


class OpenAI(WireFormat):
    provider = ModelProvider.OPENAI
    end_marks = (b"response.completed", b"response.incomplete", b"finish_reason")

    def read_token(self, headers: Mapping[str, str], query: str) -> str | None:
        return read_bearer(headers)

    def credential(self, key: str) -> tuple[str, str]:
        return bearer(key)

    def system_prompt(self, content: Mapping[str, Any]) -> str:
        return _system_prompt(content)

    def _find_format(
        self, path: str, query: str, created: int
    ) -> RequestFormat | Callable[[Any], bytes] | None:
        match path.removeprefix("v1/"):
            case "responses":
                return Responses(created)
            case "chat/completions":
                return ChatCompletions(created)
            case "embeddings":
                return render_embeddings
        return None

    def restrict_tools(
        self, content: Mapping[str, Any], *, is_demanded: bool, is_single: bool
    ) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if is_demanded and content.get("tool_choice") in (None, "auto"):
            changes["tool_choice"] = "required"
        if is_single:
            changes["parallel_tool_calls"] = False
        return changes

    def keepalive(self, path: str) -> bytes:
        # OpenClaw waits five minutes for the first event, and a comment is none.
        if path.endswith("responses"):
            return encode('{"type":"keepalive"}', "keepalive")
        return encode('{"object":"chat.completion.chunk","choices":[]}')

    def _error(self, status: int, message: str) -> dict[str, Any]:
        code = "invalid_api_key" if status == 401 else None
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        return {"error": error}

    def _read_message(self, message: Mapping[str, Any]) -> Iterator[str | CallPiece]:
        if "choices" in message:
            return _read_completion(message)
        return _read_response(message)

    def _read_finish_reason(self, message: Mapping[str, Any]) -> str | None:
        # Chat Completions, then the Responses API: an event, or a whole answer.
        if "choices" in message:
            reasons = (each.get("finish_reason") for each in message["choices"])
            return next(filter(None, reasons), None)
        response = message.get("response", message)
        if response.get("status") == "incomplete":
            return (response.get("incomplete_details") or {}).get("reason") or "incomplete"
        return "completed" if response.get("status") == "completed" else None

    def read_usage(self, counts: Mapping[str, Any]) -> Usage:
        # The Responses API, then Chat Completions and embeddings.
        name = "input_tokens" if "input_tokens" in counts else "prompt_tokens"
        details = counts.get(f"{name}_details") or {}
        completion_tokens = read_count(counts, "completion_tokens")
        return Usage(
            input_tokens=read_count(counts, name, is_needed=True),
            cached_tokens=read_count(details, "cached_tokens"),
            cache_write_tokens=read_count(details, "cache_write_tokens"),
            output_tokens=read_count(counts, "output_tokens") + completion_tokens,
        )

    def is_end(self, event: Mapping[str, Any]) -> bool:
        # The Responses API, then Chat Completions.
        if "type" in event:
            return event["type"] in {"response.completed", "response.incomplete"}
        return any(choice.get("finish_reason") for choice in event["choices"])


def _system_prompt(content: Mapping[str, Any]) -> str:
    """A request's system prompt, in this format or that of Chat Completions."""
    items = content.get("input") or content.get("messages")
    texts = [read_text(content.get("instructions"))]
    for item in items if isinstance(items, list) else []:
        if item.get("role") in _SYSTEM_ROLES:
            texts.append(read_text(item.get("content")))
    return "\n\n".join(filter(None, texts))


@dataclass(frozen=True)
class Responses(RequestFormat):
    """`POST /responses`; `created` is the answer's Unix time in seconds."""

    created: int = 0

    def parse(self, content: Mapping[str, Any]) -> Conversation:
        items = content["input"]
        if isinstance(items, str):
            items = [{"role": "user", "content": items}]
        return Conversation(
            model=str(content.get("model", "")),
            system=_system_prompt(content),
            turns=tuple(turn for item in items for turn in _turns_of_item(item)),
            tools=tuple(
                PromptTool(tool["name"], tool.get("parameters") or {})
                for tool in content.get("tools") or []
                if tool.get("type") == "function"
            ),
            choice=_read_choice(content.get("tool_choice") or "auto"),
            is_streamed=bool(content.get("stream")),
            max_output_tokens=first_limit(content.get("max_output_tokens")),
        )

    def render(self, conversation: Conversation, reply: Reply) -> dict[str, Any]:
        return self._response(conversation, reply, _last_status(reply))

    def stream(
        self, conversation: Conversation, reply: Reply
    ) -> Iterator[dict[str, Any] | StreamStep]:
        numbers = count()
        for event in self._events(conversation, reply):
            if isinstance(event, dict):
                event["sequence_number"] = next(numbers)
            yield event

    def _events(
        self, conversation: Conversation, reply: Reply
    ) -> Iterator[dict[str, Any] | StreamStep]:
        started, status = self._response(conversation, reply, "in_progress"), _last_status(reply)
        yield {"type": "response.created", "response": started}
        yield {"type": "response.in_progress", "response": started}
        for number, each in enumerate(reply.blocks):
            item = _item(conversation, number, each, "in_progress")
            yield {"type": "response.output_item.added", "output_index": number, "item": item}
            place = {"item_id": item["id"], "output_index": number}
            if isinstance(each, ToolCall):
                yield from _call_events(reply, each, place)
            else:
                yield from _text_events(reply, place)
            item = _item(conversation, number, each, status)
            yield {"type": "response.output_item.done", "output_index": number, "item": item}
        whole = self._response(conversation, reply, status)
        yield {"type": f"response.{status}", "response": whole}

    def _response(self, conversation: Conversation, reply: Reply, status: str) -> dict[str, Any]:
        is_over = status != "in_progress"
        input_tokens = reply.input_tokens(conversation)
        usage = {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": reply.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens + reply.output_tokens,
        }
        items = [
            _item(conversation, number, each, status) for number, each in enumerate(reply.blocks)
        ]
        return {
            "id": f"resp_{conversation.digest[:48]}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"}
            if status == "incomplete"
            else None,
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


def _read_choice(choice: Any) -> ToolChoice:
    """A request's tool choice, in this format or that of Chat Completions."""
    if isinstance(choice, dict):
        named = choice.get("function") or choice
        return ToolChoice("required", named.get("name"))
    return ToolChoice(choice if choice in {"none", "required"} else "auto")


def _turns_of_item(item: Mapping[str, Any]) -> Iterator[PromptTurn]:
    kind = item.get("type", "message")
    if kind == "function_call":
        yield tool_call(_call_piece(item))
    elif kind == "function_call_output":
        yield ToolResult(item["call_id"], read_text(item["output"]))
    elif kind == "message" and item["role"] == "user":
        yield UserMessage(tuple(read_texts(item["content"])))
    elif kind == "message" and item["role"] == "assistant":
        yield AssistantText(read_text(item["content"]))


def _last_status(reply: Reply) -> str:
    return "incomplete" if reply.is_cut else "completed"


def _item(
    conversation: Conversation, number: int, each: str | ToolCall, status: str
) -> dict[str, Any]:
    is_over = status != "in_progress"
    # The first item's id has no number.
    id_ = conversation.digest[:48] + (f"_{number}" if number else "")
    if isinstance(each, ToolCall):
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


def _text_events(reply: Reply, place: Mapping[str, Any]) -> Iterator[dict[str, Any] | StreamStep]:
    where = {**place, "content_index": 0}
    yield {"type": "response.content_part.added", **where, "part": _part("")}
    delta = {"type": "response.output_text.delta", **where, "logprobs": []}
    yield from reply.events(reply.text, lambda piece: {**delta, "delta": piece})
    yield {"type": "response.output_text.done", **where, "text": reply.text, "logprobs": []}
    yield {"type": "response.content_part.done", **where, "part": _part(reply.text)}


def _call_events(
    reply: Reply, call: ToolCall, place: Mapping[str, Any]
) -> Iterator[dict[str, Any] | StreamStep]:
    delta = {"type": "response.function_call_arguments.delta", **place}
    yield from reply.events(call, lambda piece: {**delta, "delta": piece})
    done = {"type": "response.function_call_arguments.done", "arguments": call.arguments_json}
    yield {**done, **place, "name": call.name}


def _read_response(message: Mapping[str, Any]) -> Iterator[str | CallPiece]:
    """The text and tool calls of an answer or an event; may raise MALFORMED."""
    kind = message.get("type", "")
    if kind == "response.output_text.delta":
        yield message["delta"]
    elif kind == "response.output_item.done":
        yield from _read_item(message["item"], is_streamed=True)
    elif message.get("object") == "response":
        for item in message["output"]:
            yield from _read_item(item, is_streamed=False)


def _read_item(item: Mapping[str, Any], *, is_streamed: bool) -> Iterator[str | CallPiece]:
    if item["type"] == "function_call":
        yield _call_piece(item)
    elif item["type"] == "message" and not is_streamed:
        yield from (part.get("text", "") for part in item["content"])


def _call_piece(item: Mapping[str, Any]) -> CallPiece:
    return CallPiece(item["call_id"], item["call_id"], item["name"], item["arguments"])


@dataclass(frozen=True)
class ChatCompletions(RequestFormat):
    """`POST /chat/completions`; `created` is the answer's Unix time in seconds."""

    created: int = 0

    def parse(self, content: Mapping[str, Any]) -> Conversation:
        limit = first_limit(content.get("max_completion_tokens"), content.get("max_tokens"))
        return Conversation(
            model=str(content.get("model", "")),
            system=_system_prompt(content),
            turns=tuple(
                turn for message in content["messages"] for turn in _turns_of_message(message)
            ),
            tools=tuple(
                PromptTool(tool["function"]["name"], tool["function"].get("parameters") or {})
                for tool in content.get("tools") or []
                if tool.get("type") == "function"
            ),
            choice=_read_choice(content.get("tool_choice") or "auto"),
            is_streamed=bool(content.get("stream")),
            has_usage_in_stream=bool((content.get("stream_options") or {}).get("include_usage")),
            max_output_tokens=limit,
        )

    def render(self, conversation: Conversation, reply: Reply) -> dict[str, Any]:
        choice = {
            "index": 0,
            "message": _chat_message(reply),
            "logprobs": None,
            "finish_reason": _finish_reason(reply),
        }
        head = self._head(conversation, "chat.completion")
        return head | {"choices": [choice], "usage": _chat_usage(conversation, reply)}

    def stream(
        self, conversation: Conversation, reply: Reply
    ) -> Iterator[dict[str, Any] | bytes | StreamStep]:
        head = self._head(conversation, "chat.completion.chunk")

        def chunk(delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
            return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

        if reply.text or not reply.calls:
            yield chunk({"role": "assistant", "content": ""})
            yield from reply.events(reply.text, lambda piece: chunk({"content": piece}))
        for index, call in enumerate(reply.calls):
            part = {"index": index, **_chat_call(call)}
            part["function"] = {"name": call.name, "arguments": ""}
            yield chunk({"role": "assistant", "content": None, "tool_calls": [part]})
            for piece in split_text(call.arguments_json):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        yield chunk({}, _finish_reason(reply))
        if conversation.has_usage_in_stream:
            yield head | {"choices": [], "usage": _chat_usage(conversation, reply)}
        yield encode("[DONE]")

    def _head(self, conversation: Conversation, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{conversation.digest[:29]}",
            "object": kind,
            "created": self.created,
            "model": conversation.model,
        }


def _turns_of_message(message: Mapping[str, Any]) -> Iterator[PromptTurn]:
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


def _chat_usage(conversation: Conversation, reply: Reply) -> dict[str, int]:
    input_tokens, output_tokens = reply.input_tokens(conversation), reply.output_tokens
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def _chat_message(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "refusal": None}
    if not reply.calls:
        return message | {"content": reply.text}
    calls = [_chat_call(each) for each in reply.calls]
    return message | {"content": reply.text or None, "tool_calls": calls}


def _chat_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments_json}
    return {"id": call.id, "type": "function", "function": function}


def _finish_reason(reply: Reply) -> str:
    if reply.is_cut:
        return "length"
    return "tool_calls" if reply.calls else "stop"


def _read_completion(message: Mapping[str, Any]) -> Iterator[str | CallPiece]:
    """The text and tool calls of an answer or a chunk; may raise MALFORMED."""
    for choice in message["choices"]:
        part = choice.get("delta") or choice.get("message") or {}
        yield part.get("content") or ""
        for index, call in enumerate(part.get("tool_calls") or ()):
            key, call_id = call.get("index", index), call.get("id") or ""
            function = call.get("function") or {}
            name, arguments = function.get("name") or "", function.get("arguments") or ""
            yield CallPiece(key, call_id, name, arguments)


def render_embeddings(body: Mapping[str, Any]) -> bytes:
    """The answer to a request for embeddings: small vectors that depend on the text only."""
    inputs = body["input"]
    # A list of numbers is one text as tokens.
    is_one = isinstance(inputs, str) or (bool(inputs) and isinstance(inputs[0], int))
    texts = [inputs if isinstance(inputs, str) else json.dumps(inputs)] if is_one else list(inputs)
    size = int(body.get("dimensions") or _DIMENSIONS)
    if size * len(texts) > MAX_NUMBERS:
        raise ValueError(f"embeddings of more than {MAX_NUMBERS} numbers together")
    vectors = [_vector(text if isinstance(text, str) else json.dumps(text), size) for text in texts]
    tokens = sum(count_tokens(str(text)) for text in texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _encode_vector(vector, body)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    whole = {"object": "list", "model": body.get("model", ""), "data": data, "usage": usage}
    return json.dumps(whole).encode()


def _vector(text: str, size: int) -> list[float]:
    stretched = hashlib.shake_256(text.encode()).digest(size * 2)
    numbers = [value / 32768 for value in struct.unpack(f"<{size}h", stretched)]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def _encode_vector(vector: list[float], body: Mapping[str, Any]) -> list[float] | str:
    if body.get("encoding_format") != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
