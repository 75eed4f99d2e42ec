"""The offline model behind each provider's paths: which format a request has, and its answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from chowder_local.domain import ModelProvider
from chowder_local.relay.offline import (
    anthropic,
    embeddings,
    gemini,
    openai_chat,
    openai_responses,
)
from chowder_local.relay.offline.decision import decide
from chowder_local.relay.providers import error_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chowder_local.relay.offline.conversation import Conversation

_JSON = "application/json"
_EVENTS = "text/event-stream; charset=utf-8"
_GEMINI_PATH = re.compile(r"models/(?P<model>.+):(?P<verb>generateContent|streamGenerateContent)\Z")


_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


@dataclass(frozen=True)
class OfflineAnswer:
    """A whole answer, its body in the pieces in which it is to be sent."""

    status: int
    content_type: str
    chunks: Iterator[bytes]


def answer(
    provider: ModelProvider, path: str, query: str, body: bytes, created: int
) -> OfflineAnswer:
    """What the offline model says; what it does not serve or cannot read gets an error in
    the provider's shape.
    """
    serve = _served(provider, path.strip("/"), query)
    if serve is None:
        words = f"The built-in offline model does not serve {path}."
        return _refused(provider, 404, words)
    try:
        return serve(json.loads(body), created)
    except _UNREADABLE as problem:
        words = f"The built-in offline model cannot read this request: {problem!r}."
        return _refused(provider, 400, words)


def _served(
    provider: ModelProvider, path: str, query: str
) -> Callable[[Any, int], OfflineAnswer] | None:
    if provider is ModelProvider.ANTHROPIC:
        return _anthropic if path == "v1/messages" else None
    if provider is ModelProvider.OPENAI:
        return {
            "responses": _responses,
            "chat/completions": _chat,
            "embeddings": _embeddings,
        }.get(path.removeprefix("v1/"))
    if found := _GEMINI_PATH.search(unquote(path)):
        is_streamed = found["verb"] == "streamGenerateContent"
        is_sse = parse_qs(query).get("alt") == ["sse"]

        def serve(body: Mapping[str, Any], _: int) -> OfflineAnswer:
            asked = gemini.read(body, found["model"], is_streamed=is_streamed)
            chunks = gemini.write(asked, decide(asked), is_sse=is_sse)
            return OfflineAnswer(200, _EVENTS if is_streamed and is_sse else _JSON, chunks)

        return serve
    return None


def _anthropic(body: Mapping[str, Any], _: int) -> OfflineAnswer:
    asked = anthropic.read(body)
    return OfflineAnswer(200, _kind(asked), anthropic.write(asked, decide(asked)))


def _responses(body: Mapping[str, Any], created: int) -> OfflineAnswer:
    asked = openai_responses.read(body)
    chunks = openai_responses.write(asked, decide(asked), created)
    return OfflineAnswer(200, _kind(asked), chunks)


def _chat(body: Mapping[str, Any], created: int) -> OfflineAnswer:
    asked = openai_chat.read(body)
    return OfflineAnswer(200, _kind(asked), openai_chat.write(asked, decide(asked), created))


def _embeddings(body: Mapping[str, Any], _: int) -> OfflineAnswer:
    return OfflineAnswer(200, _JSON, iter([embeddings.answer(body)]))


def _kind(asked: Conversation) -> str:
    return _EVENTS if asked.is_streamed else _JSON


def _refused(provider: ModelProvider, status: int, words: str) -> OfflineAnswer:
    return OfflineAnswer(status, _JSON, iter([error_body(provider, status, words)]))
