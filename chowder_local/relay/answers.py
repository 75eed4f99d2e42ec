"""Reads a model's answer, streamed or whole, in any provider's format (pure)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.offline.conversation import Called
from chowder_local.relay.providers import error_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


@dataclass(frozen=True)
class ModelSaid:
    """What a model said: words, tool calls, or why it did not."""

    text: str = ""
    calls: tuple[Called, ...] = ()
    error: str | None = None


@dataclass
class _Heard:
    """What was said so far; the arguments of a call come in pieces, by its place or its id."""

    text: list[str] = field(default_factory=list)
    calls: dict[Any, dict[str, str]] = field(default_factory=dict)
    error: str | None = None

    def called(self, at: Any, identity: str, name: str, arguments: str = "") -> None:
        known = self.calls.setdefault(at, {"id": "", "name": "", "arguments": ""})
        known["id"] = known["id"] or identity
        known["name"] = known["name"] or name
        known["arguments"] += arguments

    def said(self) -> ModelSaid:
        calls = tuple(
            Called(each["id"], each["name"], _arguments(each["arguments"]))
            for each in self.calls.values()
        )
        return ModelSaid("".join(self.text), calls, self.error)


def model_said(wire: ModelProvider, body: bytes) -> ModelSaid:
    """What an answer says, as far as it goes: one that broke off says what had come by then."""
    heard = _Heard()
    for message in _messages(body):
        try:
            if message.get("error"):
                heard.error = error_words(json.dumps(message).encode())
            _READERS[wire](message, heard)
        except _UNREADABLE:
            # A malformed event is none; what came before and after it is there all the same.
            continue
    return heard.said()


def _messages(body: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of an answer: those of its events, of its list, or the one that it is."""
    text = body.decode("utf-8", "replace")
    if text.lstrip()[:1] in {"{", "["}:
        found = _json(text)
        yield from (each for each in (found if isinstance(found, list) else [found]) if each)
        return
    for line in text.splitlines():
        if line.startswith("data:") and isinstance(found := _json(line[5:]), dict):
            yield found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _arguments(text: str) -> dict[str, Any]:
    found = _json(text)
    return found if isinstance(found, dict) else ({"…": text} if text else {})


def _anthropic(message: Mapping[str, Any], heard: _Heard) -> None:
    kind = message.get("type")
    if kind == "message":
        for at, block in enumerate(message["content"]):
            _anthropic_block(at, block, heard)
    elif kind == "content_block_start":
        _anthropic_block(message["index"], message["content_block"], heard)
    elif kind == "content_block_delta":
        delta = message["delta"]
        heard.text.append(delta.get("text", ""))
        if "partial_json" in delta:
            heard.called(message["index"], "", "", delta["partial_json"])


def _anthropic_block(at: int, block: Mapping[str, Any], heard: _Heard) -> None:
    if block["type"] == "text":
        heard.text.append(block["text"])
    elif block["type"] == "tool_use":
        arguments = json.dumps(block["input"]) if block.get("input") else ""
        heard.called(at, block["id"], block["name"], arguments)


def _openai(message: Mapping[str, Any], heard: _Heard) -> None:
    kind = message.get("type", "")
    if "choices" in message:
        for choice in message["choices"]:
            _chat(choice.get("delta") or choice.get("message") or {}, heard)
    elif kind == "response.output_text.delta":
        heard.text.append(message["delta"])
    elif kind == "response.output_item.done":
        _openai_item(message["item"], heard, is_streamed=True)
    elif message.get("object") == "response":
        for item in message["output"]:
            _openai_item(item, heard, is_streamed=False)


def _openai_item(item: Mapping[str, Any], heard: _Heard, *, is_streamed: bool) -> None:
    if item["type"] == "function_call":
        heard.called(item["call_id"], item["call_id"], item["name"], item["arguments"])
    elif item["type"] == "message" and not is_streamed:
        heard.text += [part.get("text", "") for part in item["content"]]


def _chat(said: Mapping[str, Any], heard: _Heard) -> None:
    heard.text.append(said.get("content") or "")
    for at, call in enumerate(said.get("tool_calls") or ()):
        function = call.get("function") or {}
        heard.called(
            call.get("index", at), call.get("id") or "", function.get("name") or "",
            function.get("arguments") or "",
        )  # fmt: skip


def _gemini(message: Mapping[str, Any], heard: _Heard) -> None:
    for part in message["candidates"][0]["content"].get("parts", ()):
        heard.text.append(part.get("text", ""))
        if call := part.get("functionCall"):
            arguments = json.dumps(call.get("args") or {})
            heard.called(len(heard.calls), call.get("id") or "", call["name"], arguments)


_READERS = {
    ModelProvider.ANTHROPIC: _anthropic,
    ModelProvider.OPENAI: _openai,
    ModelProvider.GEMINI: _gemini,
}
