"""OpenAI's Responses format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.relay.wire.conversation import (
    AssistantText,
    Conversation,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    UserMessage,
    first_limit,
)
from chowder_local.relay.wire.reply import StreamStep, split_text
from chowder_local.relay.wire.request_format import RequestFormat
from chowder_local.relay.wire.wire_format import CallPiece, read_text, read_texts, tool_call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chowder_local.relay.wire.conversation import Turn
    from chowder_local.relay.wire.reply import Reply

_SYSTEM_ROLES = frozenset({"system", "developer"})


def system_prompt(content: Mapping[str, Any]) -> str:
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
            system=system_prompt(content),
            turns=tuple(turn for item in items for turn in _turns(item)),
            tools=tuple(
                Tool(tool["name"], tool.get("parameters") or {})
                for tool in content.get("tools") or []
                if tool.get("type") == "function"
            ),
            choice=read_choice(content.get("tool_choice") or "auto"),
            is_streamed=bool(content.get("stream")),
            max_output_tokens=first_limit(content.get("max_output_tokens")),
        )

    def render(self, conversation: Conversation, reply: Reply) -> dict[str, Any]:
        return self._response(conversation, reply, _last_status(reply))

    def stream(
        self, conversation: Conversation, reply: Reply
    ) -> Iterator[dict[str, Any] | StreamStep]:
        number = 0
        for event in self._events(conversation, reply):
            if isinstance(event, StreamStep):
                yield event
            else:
                yield event | {"sequence_number": number}
                number += 1

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
                yield from _call_events(each, place)
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


def read_choice(choice: Any) -> ToolChoice:
    """A request's tool choice, in this format or that of Chat Completions."""
    if isinstance(choice, dict):
        named = choice.get("function") or choice
        return ToolChoice("required", named.get("name"))
    return ToolChoice(choice if choice in {"none", "required"} else "auto")


def _turns(item: Mapping[str, Any]) -> Iterator[Turn]:
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
    for step in reply.stream():
        if isinstance(step, StreamStep):
            yield step
        else:
            yield {"type": "response.output_text.delta", **where, "delta": step, "logprobs": []}
    yield {"type": "response.output_text.done", **where, "text": reply.text, "logprobs": []}
    yield {"type": "response.content_part.done", **where, "part": _part(reply.text)}


def _call_events(call: ToolCall, place: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    arguments = call.arguments_json
    for piece in split_text(arguments):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
    done = {"type": "response.function_call_arguments.done", "arguments": arguments}
    yield {**done, **place, "name": call.name}


def read_message(message: Mapping[str, Any]) -> Iterator[str | CallPiece]:
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
