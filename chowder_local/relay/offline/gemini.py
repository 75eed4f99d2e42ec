"""Gemini's generateContent format, read and written."""

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
)
from chowder_local.relay.offline.stream_steps import StreamStep
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
        max_output_tokens=limit_of((body.get("generationConfig") or {}).get("maxOutputTokens")),
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


def write(
    conversation: Conversation, reply: Reply, *, is_sse: bool
) -> Iterator[bytes | StreamStep]:
    """The answer: whole, as events, or (streamed but without `alt=sse`) as one JSON array."""
    if not conversation.is_streamed:
        yield from reply.interruptions()
        parts = [_part(each) for each in reply.blocks]
        yield json.dumps(_chunk(conversation, reply, parts, is_last=True)).encode()
        return
    number = 0
    for step in _chunks(conversation, reply):
        if isinstance(step, StreamStep):
            yield step
            continue
        yield encode(json.dumps(step)) if is_sse else _element(step, number)
        number += 1
    if not is_sse:
        yield b"]"


def _element(chunk: Mapping[str, Any], number: int) -> bytes:
    return (b"," if number else b"[") + json.dumps(chunk).encode()


def _chunks(conversation: Conversation, reply: Reply) -> Iterator[dict[str, Any] | StreamStep]:
    # Held back until it is known whether more comes, because the last one is another.
    held: list[dict[str, Any]] = []
    for step in _steps(reply):
        if held:
            yield _chunk(conversation, reply, held, is_last=False)
        held = []
        if isinstance(step, StreamStep):
            yield step
        else:
            held = [_part(step)]
    yield _chunk(conversation, reply, held or [_part("")], is_last=True)


def _steps(reply: Reply) -> Iterator[str | Called | StreamStep]:
    for each in reply.blocks:
        if isinstance(each, Called):
            yield each
        else:
            yield from reply.streamed()


def _part(each: str | Called) -> dict[str, Any]:
    if isinstance(each, str):
        return {"text": each}
    return {"functionCall": {"id": each.id, "name": each.name, "args": dict(each.arguments)}}


def _chunk(
    conversation: Conversation, reply: Reply, parts: list[dict[str, Any]], *, is_last: bool
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    read_tokens = reply.input_tokens(conversation)
    usage = {"promptTokenCount": read_tokens, "totalTokenCount": read_tokens}
    if is_last:
        # STOP for a tool call too: OpenClaw takes every other reason for a failure.
        candidate["finishReason"] = "MAX_TOKENS" if reply.is_cut else "STOP"
        usage["candidatesTokenCount"] = reply.output_tokens
        usage["totalTokenCount"] += reply.output_tokens
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": conversation.model,
        "responseId": conversation.digest[:22],
    }
