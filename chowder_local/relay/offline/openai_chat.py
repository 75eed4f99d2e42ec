"""OpenAI's Chat Completions format, read and written."""

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
    """What a request to `/chat/completions` asks."""
    messages = body["messages"]
    told = [_text(each.get("content")) for each in messages if each["role"] in _SYSTEM_ROLES]
    return Conversation(
        model=str(body.get("model", "")),
        system="\n\n".join(told),
        turns=tuple(turn for message in messages for turn in _turns(message)),
        tools=tuple(
            Tool(tool["function"]["name"], tool["function"].get("parameters") or {})
            for tool in body.get("tools") or []
            if tool.get("type") == "function"
        ),
        choice=_choice(body.get("tool_choice") or "auto"),
        is_streamed=bool(body.get("stream")),
        has_usage_in_stream=bool((body.get("stream_options") or {}).get("include_usage")),
        digest=digest(body),
        input_tokens=body_tokens(body),
        max_output_tokens=limit_of(body.get("max_completion_tokens"), body.get("max_tokens")),
    )


def _choice(choice: Any) -> Choice:
    if isinstance(choice, dict):
        return Choice("required", (choice.get("function") or {}).get("name"))
    return Choice(choice if choice in {"none", "required"} else "auto")


def _turns(message: Mapping[str, Any]) -> Iterator[Turn]:
    content = message.get("content")
    if message["role"] == "user":
        yield Said((content,) if isinstance(content, str) else tuple(_texts(content)))
    elif message["role"] == "tool":
        yield Returned(message["tool_call_id"], _text(content))
    elif message["role"] == "assistant":
        if content:
            yield Answered(_text(content))
        for call in message.get("tool_calls") or []:
            yield Called(call["id"], call["function"]["name"])


def _texts(parts: Any) -> list[str]:
    return [part["text"] for part in parts or [] if isinstance(part.get("text"), str)]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(_texts(content))


def write(conversation: Conversation, reply: Reply, created: int) -> Iterator[bytes | StreamStep]:
    """The answer, whole or as events."""
    head = {
        "id": f"chatcmpl-{conversation.digest[:29]}",
        "object": "chat.completion",
        "created": created,
        "model": conversation.model,
    }
    read_tokens = reply.input_tokens(conversation)
    usage = {
        "prompt_tokens": read_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": read_tokens + reply.output_tokens,
    }
    if not conversation.is_streamed:
        choice = {
            "index": 0,
            "message": _message(reply),
            "logprobs": None,
            "finish_reason": _finish_reason(reply),
        }
        yield from reply.interruptions()
        yield json.dumps(head | {"choices": [choice], "usage": usage}).encode()
        return
    head["object"] = "chat.completion.chunk"
    for delta in _deltas(reply):
        yield delta if isinstance(delta, StreamStep) else _chunk(head, delta, None)
    yield _chunk(head, {}, _finish_reason(reply))
    if conversation.has_usage_in_stream:
        yield encode(json.dumps(head | {"choices": [], "usage": usage}))
    yield encode("[DONE]")


def _message(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "refusal": None}
    if not reply.calls:
        return message | {"content": reply.text}
    calls = [_call(each) for each in reply.calls]
    return message | {"content": reply.text or None, "tool_calls": calls}


def _call(call: Called) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments_json}
    return {"id": call.id, "type": "function", "function": function}


def _finish_reason(reply: Reply) -> str:
    if reply.is_cut:
        return "length"
    return "tool_calls" if reply.calls else "stop"


def _chunk(head: Mapping[str, Any], delta: Mapping[str, Any], reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return encode(json.dumps({**head, "choices": [choice]}))


def _deltas(reply: Reply) -> Iterator[dict[str, Any] | StreamStep]:
    if reply.text or not reply.calls:
        yield {"role": "assistant", "content": ""}
        for step in reply.streamed():
            yield step if isinstance(step, StreamStep) else {"content": step}
    for index, call in enumerate(reply.calls):
        begun = {"index": index, **_call(call)}
        begun["function"] = {"name": call.name, "arguments": ""}
        yield {"role": "assistant", "content": None, "tool_calls": [begun]}
        for piece in pieces(call.arguments_json):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
