"""What a provider's path takes and answers: conversations parsed, replies rendered (pure)."""

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
    """A whole answer, its body in the pieces in which it is to be sent."""

    status: int
    content_type: str
    steps: Iterator[bytes | StreamStep]


class RequestFormat(ABC):
    """The format of a path's requests and answers."""

    is_sse: bool = True
    """Whether an answer that is streamed is sent as events."""

    @abstractmethod
    def parse(self, content: Mapping[str, Any]) -> Conversation:
        """A request's conversation; may raise MALFORMED."""

    @abstractmethod
    def render(self, conversation: Conversation, reply: Reply) -> dict[str, Any]:
        """The answer as a whole."""

    @abstractmethod
    def stream(
        self, conversation: Conversation, reply: Reply
    ) -> Iterator[dict[str, Any] | bytes | StreamStep]:
        """The answer's events, what is sent as it is, and what happens between them."""


@dataclass(frozen=True)
class ParsedRequest:
    """A request for a reply, in whatever format; any reply can be rendered as its answer."""

    conversation: Conversation
    format: RequestFormat

    def render(self, reply: Reply) -> RenderedAnswer:
        """The answer that says this, as far as the request's limit of tokens goes."""
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
