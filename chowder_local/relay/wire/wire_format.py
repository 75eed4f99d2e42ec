"""What the providers' HTTP formats have in common (pure)."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl, urlencode

from chowder_local.core import untrusted_json
from chowder_local.relay.wire.conversation import (
    CHARACTERS_PER_TOKEN,
    ToolCall,
    digest,
    find_excess,
)
from chowder_local.relay.wire.errors import error_message, load_json
from chowder_local.upstream.sse import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chowder_local.core.domain import ModelProvider
    from chowder_local.relay.wire.conversation import Conversation, Reply, StreamStep

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


HELD = b": held at a breakpoint\n\n"
"""A comment in a stream."""
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""The exceptions of reading JSON of an unexpected shape."""
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]+)"')
_FINISH_REASONS = {
    "completed": "stop", "end_turn": "stop", "stop_sequence": "stop",
    "tool_calls": "tool_call", "function_call": "tool_call", "tool_use": "tool_call",
    "max_tokens": "length", "max_output_tokens": "length",
    "refusal": "content_filter", "safety": "content_filter",
}  # fmt: skip
"""Of the providers' own reasons, those that have another name."""
_REASON_LENGTH = 64
MAX_TOKENS = 1 << 40
"""A bound for integers in the database; no call has so many tokens."""


@dataclass(frozen=True)
class Usage:
    """Tokens of a call. Input tokens include those of the cache."""

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    long_cache_write_tokens: int = 0
    """The part of the cache writes that is kept for an hour, which costs more."""
    output_tokens: int = 0


@dataclass(frozen=True)
class ModelOutput:
    """A model's output: text, tool calls, or an error."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    error: str | None = None
    finish_reason: str | None = None
    """Why the model ended it, in OpenTelemetry's words; None if the answer does not say."""


class CallPiece(NamedTuple):
    """A tool call in an answer, or the next piece of the one with the same key."""

    key: Any
    call_id: str
    name: str
    arguments: str = ""
    """JSON."""


class WireFormat(ABC):
    """The format of one provider's API."""

    provider: ClassVar[ModelProvider]
    key_header: ClassVar[str]
    usage_member: ClassVar[bytes] = b'"usage"'
    end_marks: ClassVar[tuple[bytes, ...]]
    """Each event that ends an answer contains one of these; few other events do."""

    def read_token(self, headers: Mapping[str, str], query: str) -> str | None:
        """The key of a request, from where this provider's clients put it.

        Header names are in lower case.
        """
        return headers.get(self.key_header) or read_bearer(headers)

    def credential(self, key: str) -> tuple[str, str]:
        """The header that carries a key to the provider."""
        return self.key_header, key

    def read_model(self, path: str, body: bytes) -> str | None:
        """The model that a request names; None if it names none."""
        match = _MODEL.search(body)
        return match and match[1].decode("utf-8", "replace")

    @abstractmethod
    def system_prompt(self, content: Mapping[str, Any]) -> str:
        """The system prompt of a request; may raise MALFORMED."""

    @abstractmethod
    def restrict_tools(
        self, content: Mapping[str, Any], *, is_demanded: bool, is_single: bool
    ) -> dict[str, Any]:
        """The members of a request that demand a tool call, or allow one at a time only."""

    def parse(
        self, path: str, query: str, body: bytes, load: Callable[[], Any], created: int
    ) -> ParsedRequest | RenderedAnswer:
        """The parsed request; or its whole answer if no reply is needed.

        Such answers are embeddings, and errors for paths that the offline model does not serve, for
        requests that it cannot parse and for prompts that are too long. `load` parses `body`, and
        is called only for a path that is served.
        """
        request_format = self._find_format(path.strip("/"), query, created)
        if request_format is None:
            return self.refuse(404, f"The built-in offline model does not serve {path}.")
        try:
            content = load()
            if not isinstance(request_format, RequestFormat):
                return RenderedAnswer(200, JSON_TYPE, iter([request_format(content)]))
            conversation = request_format.parse(content)
            if excess := find_excess(conversation):
                return self.refuse(400, str(excess))
            conversation = replace(
                conversation,
                digest=digest(conversation.model, body),
                input_tokens=-(-len(body) // CHARACTERS_PER_TOKEN),
            )
            return ParsedRequest(conversation, request_format)
        except MALFORMED as problem:
            # Its repr may have the whole request.
            reason = f"{type(problem).__name__}: {untrusted_json.message_of(str(problem))}"
            message = f"The built-in offline model cannot read this request: {reason}."
            return self.refuse(400, message)

    @abstractmethod
    def _find_format(
        self, path: str, query: str, created: int
    ) -> RequestFormat | Callable[[Any], bytes] | None:
        """The format of a path; or a function that answers its requests without a reply."""

    def keepalive(self, path: str) -> bytes:
        """What a stream gets while a call is held, so that OpenClaw does not give up."""
        return HELD

    def refuse(self, status: int, message: str) -> RenderedAnswer:
        return RenderedAnswer(status, JSON_TYPE, iter([self.error_body(status, message)]))

    def error_body(self, status: int, message: str) -> bytes:
        return json.dumps(self._error(status, message)).encode()

    @abstractmethod
    def _error(self, status: int, message: str) -> dict[str, Any]: ...

    def read_output(self, body: bytes) -> ModelOutput:
        """The output of an answer, which may be incomplete."""
        text: list[str] = []
        error = reason = None
        calls: dict[Any, CallPiece] = {}
        for message in _messages(body):
            try:
                if message.get("error"):
                    error = error_message(json.dumps(message).encode())
                for piece in self._read_message(message):
                    if isinstance(piece, str):
                        text.append(piece)
                    else:
                        calls[piece.key] = _join(calls.get(piece.key), piece)
                reason = self._read_finish_reason(message) or reason
            except MALFORMED:
                # A malformed event is skipped; the others still count.
                continue
        if reason is not None:
            reason = str(reason).lower()[:_REASON_LENGTH]
            reason = _FINISH_REASONS.get(reason, reason)
            # Not all providers have a reason of its own for it.
            reason = "tool_call" if reason == "stop" and calls else reason
        return ModelOutput("".join(text), tuple(map(tool_call, calls.values())), error, reason)

    @abstractmethod
    def _read_message(self, message: Mapping[str, Any]) -> Iterator[str | CallPiece]:
        """The text and tool calls of an event or of a whole answer; may raise MALFORMED."""

    @abstractmethod
    def _read_finish_reason(self, message: Mapping[str, Any]) -> str | None:
        """The provider's reason in the event, or whole answer, that has it; may raise MALFORMED."""

    @abstractmethod
    def read_usage(self, counts: Mapping[str, Any]) -> Usage:
        """The usage in the usage member of an answer; may raise MALFORMED."""

    @abstractmethod
    def is_end(self, event: Mapping[str, Any]) -> bool:
        """Whether an event has the reason why the answer ends; may raise MALFORMED."""


def read_bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def bearer(key: str) -> tuple[str, str]:
    """The header that carries a key to OpenAI and to compatible providers."""
    return "authorization", f"Bearer {key}"


def strip_key(query: str) -> str:
    """The query string without `key`, in which Gemini's clients may send their key."""
    pairs = parse_qsl(query, keep_blank_values=True)
    if all(name != "key" for name, _ in pairs):
        return query
    return urlencode([pair for pair in pairs if pair[0] != "key"])


def read_texts(content: Any) -> list[str]:
    """The texts of a member that is one text, or a list of parts with or without text."""
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or [] if isinstance(part.get("text"), str)]


def read_text(content: Any) -> str:
    return "\n".join(read_texts(content))


def read_count(counts: Mapping[str, Any], name: str, *, is_needed: bool = False) -> int:
    """A number of tokens. Raises ValueError if the member is not a valid count."""
    count = counts.get(name)
    if count is None and not is_needed:
        return 0
    if not isinstance(count, int) or not 0 <= count <= MAX_TOKENS:
        raise ValueError(f"{name} is not a number of tokens")
    return int(count)


def _messages(body: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of an answer: of its events, of its array, or the single one."""
    text = body.decode("utf-8", "replace")
    if text.lstrip()[:1] in {"{", "["}:
        content = load_json(text)
        yield from (each for each in (content if isinstance(content, list) else [content]) if each)
        return
    for line in text.splitlines():
        if line.startswith("data:") and isinstance(event := load_json(line[5:]), dict):
            yield event


def _join(start: CallPiece | None, piece: CallPiece) -> CallPiece:
    if start is None:
        return piece
    call_id, name = start.call_id or piece.call_id, start.name or piece.name
    return CallPiece(piece.key, call_id, name, start.arguments + piece.arguments)


def tool_call(call: CallPiece) -> ToolCall:
    """The whole call; arguments that are no JSON object are a text under the name `…`."""
    try:
        arguments = untrusted_json.read_encodable_object(call.arguments.encode())
    except ValueError:
        arguments = {"…": call.arguments} if call.arguments else {}
    return ToolCall(call.call_id, call.name, arguments)
