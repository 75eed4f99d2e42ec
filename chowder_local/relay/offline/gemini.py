"""Gemini's generateContent format, read and written."""

from __future__ import annotations

import json
from dataclasses import replace
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

_CHOICES = {"ANY": "required", "NONE": "none"}


def read(body: Mapping[str, Any], model: str, *, is_streamed: bool) -> Conversation:
    """What a request to `/models/<model>:generateContent` (or `:streamGenerateContent`) asks."""
    wish = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    names = wish.get("allowedFunctionNames") or [None]
    mode: Any = _CHOICES.get(str(wish.get("mode", "AUTO")).upper(), "auto")
    contents = _as_list(body["contents"])
    system = body.get("systemInstruction") or body.get("system_instruction")
    turns = tuple(turn for content in contents for turn in _turns(content))
    return Conversation(
        model=model,
        system="\n".join(_texts(system)) if system else "",
        turns=turns,
        tools=tuple(
            Tool(each["name"], each.get("parametersJsonSchema") or each.get("parameters") or {})
            for tool in body.get("tools") or []
            for each in tool.get("functionDeclarations") or []
        ),
        choice=Choice(mode, names[0]),
        is_streamed=is_streamed,
        digest=digest({**body, "model": model}),
        input_tokens=body_tokens(body),
    )


def _as_list(contents: Any) -> list[Any]:
    return contents if isinstance(contents, list) else [contents]


def _turns(content: Mapping[str, Any]) -> Iterator[Turn]:
    for part in content.get("parts") or []:
        if call := part.get("functionCall"):
            yield Called(call.get("id") or call["name"], call["name"], call.get("args") or {})
        elif answer := part.get("functionResponse"):
            text = _result(answer.get("response") or {})
            yield Returned(answer.get("id") or answer["name"], text, answer["name"])
    texts = tuple(_texts(content))
    if texts and content.get("role", "user") == "user":
        yield Said(texts)
    elif texts:
        yield Answered("\n".join(texts))


def _texts(content: Mapping[str, Any]) -> list[str]:
    parts = content.get("parts") or []
    return [part["text"] for part in parts if isinstance(part.get("text"), str)]


def _result(response: Mapping[str, Any]) -> str:
    """A tool's words; a result of one member is that member."""
    only = next(iter(response.values())) if len(response) == 1 else response
    return only if isinstance(only, str) else json.dumps(only, ensure_ascii=False)


def write(conversation: Conversation, reply: Reply, *, is_sse: bool) -> Iterator[bytes]:
    """The answer: whole, as events, or (streamed but without `alt=sse`) as one JSON array."""
    if not conversation.is_streamed:
        parts = [_part(reply)]
        yield json.dumps(_chunk(conversation, reply, parts, is_last=True)).encode()
    elif is_sse:
        for chunk in _chunks(conversation, reply):
            yield encode(json.dumps(chunk))
    else:
        for number, chunk in enumerate(_chunks(conversation, reply)):
            yield (b"," if number else b"[") + json.dumps(chunk).encode()
        yield b"]"


def _chunks(conversation: Conversation, reply: Reply) -> Iterator[dict[str, Any]]:
    if reply.call is not None:
        yield _chunk(conversation, reply, [_part(reply)], is_last=True)
        return
    *before, last = pieces(reply.text)
    for piece in before:
        yield _chunk(conversation, reply, [_part(replace(reply, text=piece))], is_last=False)
    yield _chunk(conversation, reply, [_part(replace(reply, text=last))], is_last=True)


def _part(reply: Reply) -> dict[str, Any]:
    if reply.call is None:
        return {"text": reply.text}
    call = reply.call
    return {"functionCall": {"id": call.id, "name": call.name, "args": dict(call.arguments)}}


def _chunk(
    conversation: Conversation, reply: Reply, parts: list[dict[str, Any]], *, is_last: bool
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    usage = {
        "promptTokenCount": conversation.input_tokens,
        "totalTokenCount": conversation.input_tokens,
    }
    if is_last:
        # STOP for a tool call too: OpenClaw takes every other reason for a failure.
        candidate["finishReason"] = "STOP"
        usage["candidatesTokenCount"] = reply.output_tokens
        usage["totalTokenCount"] += reply.output_tokens
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": conversation.model,
        "responseId": conversation.digest[:22],
    }
