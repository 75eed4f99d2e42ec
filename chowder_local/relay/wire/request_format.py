"""The format of one API path: parses conversations and renders replies (pure)."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.upstream.sse import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chowder_local.relay.wire.conversation import Conversation
    from chowder_local.relay.wire.reply import Reply, StreamStep

JSON_TYPE = "application/json"
EVENTS_TYPE = "text/event-stream; charset=utf-8"


@dataclass(frozen=True)
class RenderedAnswer:
    """A complete answer; `steps` are the chunks of its body and what happens between them."""

    status: int
    content_type: str
    steps: Iterator[bytes | StreamStep]


class RequestFormat(ABC):
    """The request and answer format of one path."""

    is_sse: bool = True
    """Whether a streamed answer is sent as server-sent events."""

    @abstractmethod
    def parse(self, content: Mapping[str, Any]) -> Conversation:
        """The conversation of a request; may raise MALFORMED."""

    @abstractmethod
    def render(self, conversation: Conversation, reply: Reply) -> dict[str, Any]:
        """The answer as one JSON object."""

    @abstractmethod
    def stream(
        self, conversation: Conversation, reply: Reply
    ) -> Iterator[dict[str, Any] | bytes | StreamStep]:
        """The events of a streamed answer, raw bytes, and the steps between them."""


@dataclass(frozen=True)
class ParsedRequest:
    """A parsed request, which renders any reply in its own format."""

    conversation: Conversation
    format: RequestFormat

    def render(self, reply: Reply) -> RenderedAnswer:
        """The answer with the reply, cut off at the request's limit of tokens."""
        reply = reply.truncate(self.conversation.max_output_tokens)
        if not self.conversation.is_streamed:
            return RenderedAnswer(200, JSON_TYPE, self._whole(reply))
        content_type = EVENTS_TYPE if self.format.is_sse else JSON_TYPE
        return RenderedAnswer(200, content_type, self._streamed(reply))

    def _whole(self, reply: Reply) -> Iterator[bytes | StreamStep]:
        yield from reply.interruptions()
        yield json.dumps(self.format.render(self.conversation, reply)).encode()

    def _streamed(self, reply: Reply) -> Iterator[bytes | StreamStep]:
        for step in self.format.stream(self.conversation, reply):
            yield encode(json.dumps(step), step.get("type")) if isinstance(step, dict) else step
