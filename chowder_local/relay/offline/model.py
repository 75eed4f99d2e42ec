"""The offline model behind each provider's paths: what a request asks, and how it is answered."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.offline import anthropic, embeddings, gemini, openai_chat, openai_responses
from chowder_local.relay.providers import error_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chowder_local.relay.offline.conversation import Conversation, Reply
    from chowder_local.relay.offline.stream_steps import StreamStep

_JSON = "application/json"
_EVENTS = "text/event-stream; charset=utf-8"
_GEMINI_PATH = re.compile(r"models/(?P<model>.+):(?P<verb>generateContent|streamGenerateContent)\Z")
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


@dataclass(frozen=True)
class OfflineAnswer:
    """A whole answer, its body in the pieces in which it is to be sent."""

    status: int
    content_type: str
    steps: Iterator[bytes | StreamStep]


@dataclass(frozen=True)
class Question:
    """A request for a reply, in whatever format; any reply can be written as its answer."""

    conversation: Conversation
    _content_type: str
    _write: Callable[[Reply], Iterator[bytes | StreamStep]]

    def answered(self, reply: Reply) -> OfflineAnswer:
        """The answer that says this, as far as the request's limit of tokens goes."""
        steps = self._write(reply.within(self.conversation.max_output_tokens))
        return OfflineAnswer(200, self._content_type, steps)


def asked(
    provider: ModelProvider, path: str, query: str, body: bytes, created: int
) -> Question | OfflineAnswer:
    """The question in a request; or the answer, where none is asked: embeddings, and errors in
    the provider's shape for what the offline model does not serve or cannot read.
    """
    read = _reader(provider, path.strip("/"), query)
    if read is None:
        words = f"The built-in offline model does not serve {path}."
        return refused(provider, 404, words)
    try:
        return read(json.loads(body), created)
    except _UNREADABLE as problem:
        words = f"The built-in offline model cannot read this request: {problem!r}."
        return refused(provider, 400, words)


def refused(provider: ModelProvider, status: int, words: str) -> OfflineAnswer:
    """An error in the provider's shape."""
    return OfflineAnswer(status, _JSON, iter([error_body(provider, status, words)]))


def _reader(
    provider: ModelProvider, path: str, query: str
) -> Callable[[Any, int], Question | OfflineAnswer] | None:
    if provider is ModelProvider.ANTHROPIC:
        return _anthropic if path == "v1/messages" else None
    if provider is ModelProvider.OPENAI:
        return _OPENAI.get(path.removeprefix("v1/"))
    if found := _GEMINI_PATH.search(unquote(path)):
        is_streamed = found["verb"] == "streamGenerateContent"
        is_sse = parse_qs(query).get("alt") == ["sse"]

        def read(body: Mapping[str, Any], _: int) -> Question:
            conversation = gemini.read(body, found["model"], is_streamed=is_streamed)
            write = partial(gemini.write, conversation, is_sse=is_sse)
            return Question(conversation, _EVENTS if is_streamed and is_sse else _JSON, write)

        return read
    return None


def _anthropic(body: Mapping[str, Any], _: int) -> Question:
    conversation = anthropic.read(body)
    return Question(conversation, _kind(conversation), partial(anthropic.write, conversation))


def _responses(body: Mapping[str, Any], created: int) -> Question:
    conversation = openai_responses.read(body)
    write = partial(openai_responses.write, conversation, created=created)
    return Question(conversation, _kind(conversation), write)


def _chat(body: Mapping[str, Any], created: int) -> Question:
    conversation = openai_chat.read(body)
    write = partial(openai_chat.write, conversation, created=created)
    return Question(conversation, _kind(conversation), write)


def _embeddings(body: Mapping[str, Any], _: int) -> OfflineAnswer:
    return OfflineAnswer(200, _JSON, iter([embeddings.answer(body)]))


def _kind(conversation: Conversation) -> str:
    return _EVENTS if conversation.is_streamed else _JSON


_OPENAI: Mapping[str, Callable[[Any, int], Question | OfflineAnswer]] = {
    "responses": _responses,
    "chat/completions": _chat,
    "embeddings": _embeddings,
}
