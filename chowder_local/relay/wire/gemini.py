"""Gemini's generateContent format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, unquote

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
    read_texts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chowder_local.relay.wire.conversation import PromptTurn, Reply

_CHOICES = {"ANY": "required", "NONE": "none"}
_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
}
_STREAMED_VERB = "streamGenerateContent"


class Gemini(WireFormat):
    provider = ModelProvider.GEMINI
    key_header = "x-goog-api-key"
    usage_member = b'"usageMetadata"'
    end_marks = (b"finishReason",)

    def read_token(self, headers: Mapping[str, str], query: str) -> str | None:
        if self.key_header not in headers and (key := dict(parse_qsl(query)).get("key")):
            return key
        return super().read_token(headers, query)

    def read_model(self, path: str, body: bytes) -> str | None:
        return _model_and_verb(path)[0] or None

    def system_prompt(self, content: Mapping[str, Any]) -> str:
        return _system_prompt(content)

    def _find_format(self, path: str, query: str, created: int) -> RequestFormat | None:
        model, verb = _model_and_verb(path)
        if not model or verb not in {"generateContent", _STREAMED_VERB}:
            return None
        is_sse = parse_qs(query).get("alt") == ["sse"]
        return GenerateContent(model, verb == _STREAMED_VERB, is_sse)

    def restrict_tools(
        self, content: Mapping[str, Any], *, is_demanded: bool, is_single: bool
    ) -> dict[str, Any]:
        # Gemini has no parameter for one call at a time.
        config = content.get("toolConfig") or {}
        calling = config.get("functionCallingConfig") or {}
        if not is_demanded or calling.get("mode", "AUTO") != "AUTO":
            return {}
        return {"toolConfig": {**config, "functionCallingConfig": {**calling, "mode": "ANY"}}}

    def _error(self, status: int, message: str) -> dict[str, Any]:
        kind = _STATUSES.get(status, "INVALID_ARGUMENT")
        return {"error": {"code": status, "message": message, "status": kind}}

    def _read_message(self, message: Mapping[str, Any]) -> Iterator[str | CallPiece]:
        for part in message["candidates"][0]["content"].get("parts", ()):
            yield part.get("text", "")
            if call := part.get("functionCall"):
                arguments = json.dumps(call.get("args") or {})
                # Each call is complete, so the key is unique.
                yield CallPiece(object(), call.get("id") or "", call["name"], arguments)

    def _read_finish_reason(self, message: Mapping[str, Any]) -> str | None:
        reason: str | None = message["candidates"][0].get("finishReason")
        return reason

    def read_usage(self, counts: Mapping[str, Any]) -> Usage:
        prompt_tokens = read_count(counts, "promptTokenCount", is_needed=True)
        # Thinking is counted separately and billed as output.
        thought_tokens = read_count(counts, "thoughtsTokenCount")
        return Usage(
            input_tokens=prompt_tokens + read_count(counts, "toolUsePromptTokenCount"),
            cached_tokens=read_count(counts, "cachedContentTokenCount"),
            output_tokens=read_count(counts, "candidatesTokenCount") + thought_tokens,
        )

    def is_end(self, event: Mapping[str, Any]) -> bool:
        return any(candidate.get("finishReason") for candidate in event["candidates"])


def _model_and_verb(path: str) -> tuple[str, str]:
    """Of `…models/<model>:<verb>`; the model is empty if a path has another form."""
    before, _, verb = unquote(path).rpartition(":")
    is_verb = verb.isascii() and verb.isalpha()
    return before.partition("models/")[2] if is_verb else "", verb


@dataclass(frozen=True)
class GenerateContent(RequestFormat):
    """`POST /models/<model>:generateContent` and `:streamGenerateContent`.

    A stream without `alt=sse` is one JSON array.
    """

    model: str
    is_streamed: bool
    is_sse: bool = True

    def parse(self, content: Mapping[str, Any]) -> Conversation:
        calling = (content.get("toolConfig") or {}).get("functionCallingConfig") or {}
        names = calling.get("allowedFunctionNames") or [None]
        mode: Any = _CHOICES.get(str(calling.get("mode", "AUTO")).upper(), "auto")
        contents = content["contents"]
        if not isinstance(contents, list):
            contents = [contents]
        generation = content.get("generationConfig") or {}
        return Conversation(
            model=self.model,
            system=_system_prompt(content),
            turns=tuple(turn for each in contents for turn in _turns(each)),
            tools=tuple(
                PromptTool(
                    each["name"], each.get("parametersJsonSchema") or each.get("parameters") or {}
                )
                for tool in content.get("tools") or []
                for each in tool.get("functionDeclarations") or []
            ),
            choice=ToolChoice(mode, names[0]),
            is_streamed=self.is_streamed,
            max_output_tokens=first_limit(generation.get("maxOutputTokens")),
        )

    def render(self, conversation: Conversation, reply: Reply) -> dict[str, Any]:
        parts = [_part(each) for each in reply.blocks]
        return _chunk(conversation, reply, parts, is_last=True)

    def stream(
        self, conversation: Conversation, reply: Reply
    ) -> Iterator[dict[str, Any] | bytes | StreamStep]:
        if self.is_sse:
            yield from _chunks(conversation, reply)
            return
        before = b"["
        for chunk in _chunks(conversation, reply):
            if isinstance(chunk, StreamStep):
                yield chunk
            else:
                yield before + json.dumps(chunk).encode()
                before = b","
        yield b"]"


def _system_prompt(content: Mapping[str, Any]) -> str:
    system = content.get("systemInstruction") or content.get("system_instruction") or {}
    return read_text(system.get("parts"))


def _turns(content: Mapping[str, Any]) -> Iterator[PromptTurn]:
    parts = content.get("parts") or []
    for part in parts:
        if call := part.get("functionCall"):
            yield ToolCall(call.get("id") or call["name"], call["name"], call.get("args") or {})
        elif answer := part.get("functionResponse"):
            text = _result(answer.get("response") or {})
            yield ToolResult(answer.get("id") or answer["name"], text, answer["name"])
    texts = tuple(read_texts(parts))
    if texts and content.get("role", "user") == "user":
        yield UserMessage(texts)
    elif texts:
        yield AssistantText("\n".join(texts))


def _result(response: Mapping[str, Any]) -> str:
    only = next(iter(response.values())) if len(response) == 1 else response
    return only if isinstance(only, str) else json.dumps(only, ensure_ascii=False)


def _chunks(conversation: Conversation, reply: Reply) -> Iterator[dict[str, Any] | StreamStep]:
    # Each chunk is held back until the next one comes, because the last has other members.
    held: list[dict[str, Any]] = []
    for step in _parts(reply):
        if held:
            yield _chunk(conversation, reply, held, is_last=False)
        held = []
        if isinstance(step, StreamStep):
            yield step
        else:
            held = [step]
    yield _chunk(conversation, reply, held or [_part("")], is_last=True)


def _parts(reply: Reply) -> Iterator[dict[str, Any] | StreamStep]:
    for block in reply.blocks:
        if isinstance(block, ToolCall):
            yield _part(block)
        else:
            yield from reply.events(block, _part)


def _part(block: str | ToolCall) -> dict[str, Any]:
    if isinstance(block, str):
        return {"text": block}
    return {"functionCall": {"id": block.id, "name": block.name, "args": dict(block.arguments)}}


def _chunk(
    conversation: Conversation, reply: Reply, parts: list[dict[str, Any]], *, is_last: bool
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    input_tokens = reply.input_tokens(conversation)
    usage = {"promptTokenCount": input_tokens, "totalTokenCount": input_tokens}
    if is_last:
        # STOP for a tool call, too: OpenClaw treats any other reason as a failure.
        candidate["finishReason"] = "MAX_TOKENS" if reply.is_cut else "STOP"
        usage["candidatesTokenCount"] = reply.output_tokens
        usage["totalTokenCount"] += reply.output_tokens
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": conversation.model,
        "responseId": conversation.digest[:22],
    }
