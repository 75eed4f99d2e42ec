"""What every provider's HTTP format can do, and what they share (pure)."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl, urlencode

from chowder_local.relay.wire.conversation import ToolCall, count_tokens, digest
from chowder_local.relay.wire.errors import error_message, load_json
from chowder_local.relay.wire.request_format import (
    JSON_TYPE,
    ParsedRequest,
    RenderedAnswer,
    RequestFormat,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chowder_local.core.domain import ModelProvider

MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading JSON of an unexpected shape may raise."""
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]+)"')
MAX_TOKENS = 1 << 40
"""No call has so many tokens, and a database's integers end somewhere."""


@dataclass(frozen=True)
class Usage:
    """Tokens of a call; those of the cache are among those of the input."""

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    long_cache_write_tokens: int = 0
    """Those of the writes that are kept for an hour, which costs more."""
    output_tokens: int = 0


@dataclass(frozen=True)
class ModelOutput:
    """What a model answered: text, tool calls, or an error."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    error: str | None = None


class CallPiece(NamedTuple):
    """A tool call in an answer; with the key of an earlier one, the next piece of that."""

    key: Any
    call_id: str
    name: str
    arguments: str = ""
    """JSON."""


class WireFormat(ABC):
    """One provider's format: what its clients send and expect."""

    provider: ClassVar[ModelProvider]
    key_header: ClassVar[str]
    usage_member: ClassVar[bytes] = b'"usage"'
    end_marks: ClassVar[tuple[bytes, ...]]
    """One of them is in every event that ends an answer; few others need to be parsed."""

    def read_token(self, headers: Mapping[str, str], query: str) -> str | None:
        """A request's key, from where this provider's clients put it; names in lower case."""
        return headers.get(self.key_header) or read_bearer(headers)

    def credential(self, key: str) -> tuple[str, str]:
        """The header that carries a key to the provider."""
        return self.key_header, key

    def read_model(self, path: str, body: bytes) -> str | None:
        """The model that a request names, if it names one."""
        found = _MODEL.search(body)
        return found and found[1].decode("utf-8", "replace")

    @abstractmethod
    def system_prompt(self, content: Mapping[str, Any]) -> str:
        """A request's system prompt; may raise MALFORMED."""

    @abstractmethod
    def restrict_tools(
        self, content: Mapping[str, Any], *, is_demanded: bool, is_single: bool
    ) -> dict[str, Any]:
        """The members that make a request end in a tool call, or in one at a time."""

    def parse(
        self, path: str, query: str, load: Callable[[], Any], created: int
    ) -> ParsedRequest | RenderedAnswer:
        """A request whose JSON is loaded if the path is served; or else its whole answer.

        Such are embeddings, and errors for what the offline model does not serve or cannot read.
        """
        request_format = self._find_format(path.strip("/"), query, created)
        if request_format is None:
            return self.refuse(404, f"The built-in offline model does not serve {path}.")
        try:
            content = load()
            if not isinstance(request_format, RequestFormat):
                return RenderedAnswer(200, JSON_TYPE, iter([request_format(content)]))
            conversation = request_format.parse(content)
            conversation = replace(
                conversation,
                digest=digest({**content, "model": conversation.model}),
                input_tokens=count_tokens(json.dumps(content, ensure_ascii=False)),
            )
            return ParsedRequest(conversation, request_format)
        except MALFORMED as problem:
            message = f"The built-in offline model cannot read this request: {problem!r}."
            return self.refuse(400, message)

    @abstractmethod
    def _find_format(
        self, path: str, query: str, created: int
    ) -> RequestFormat | Callable[[Any], bytes] | None:
        """The format of a path's requests; or what answers them without a model."""

    def refuse(self, status: int, message: str) -> RenderedAnswer:
        return RenderedAnswer(status, JSON_TYPE, iter([self.error_body(status, message)]))

    def error_body(self, status: int, message: str) -> bytes:
        return json.dumps(self._error(status, message)).encode()

    @abstractmethod
    def _error(self, status: int, message: str) -> dict[str, Any]: ...

    def read_output(self, body: bytes) -> ModelOutput:
        """What an answer says; of one that broke off, what had come by then."""
        text: list[str] = []
        error = None
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
            except MALFORMED:
                # A malformed event is none; what came before and after it is there all the same.
                continue
        return ModelOutput("".join(text), tuple(map(_tool_call, calls.values())), error)

    @abstractmethod
    def _read_message(self, message: Mapping[str, Any]) -> Iterator[str | CallPiece]:
        """What one event or a whole answer says; may raise MALFORMED."""

    @abstractmethod
    def read_usage(self, counts: Mapping[str, Any]) -> Usage:
        """The tokens that the usage member of an answer counts; may raise MALFORMED."""

    @abstractmethod
    def is_end(self, event: Mapping[str, Any]) -> bool:
        """Whether an event says why the answer ends; may raise MALFORMED."""


def read_bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def bearer(key: str) -> tuple[str, str]:
    """The header that carries a key to OpenAI, and to all that do as it does."""
    return "authorization", f"Bearer {key}"


def strip_key(query: str) -> str:
    """A query string without the `key` that Gemini's clients may put there."""
    pairs = parse_qsl(query, keep_blank_values=True)
    if all(name != "key" for name, _ in pairs):
        return query
    return urlencode([pair for pair in pairs if pair[0] != "key"])


def read_texts(content: Any) -> list[str]:
    """The texts of a member that is one text, or a list of parts of which some have one."""
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or [] if isinstance(part.get("text"), str)]


def read_text(content: Any) -> str:
    return "\n".join(read_texts(content))


def read_count(counts: Mapping[str, Any], name: str, *, is_needed: bool = False) -> int:
    """A number of tokens. Raises ValueError for what is no such number."""
    count = counts.get(name)
    if count is None and not is_needed:
        return 0
    if not isinstance(count, int) or not 0 <= count <= MAX_TOKENS:
        raise ValueError(f"{name} is no number of tokens")
    return int(count)


def _messages(body: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of an answer: those of its events, of its list, or the one that it is."""
    text = body.decode("utf-8", "replace")
    if text.lstrip()[:1] in {"{", "["}:
        found = load_json(text)
        yield from (each for each in (found if isinstance(found, list) else [found]) if each)
        return
    for line in text.splitlines():
        if line.startswith("data:") and isinstance(found := load_json(line[5:]), dict):
            yield found


def _join(known: CallPiece | None, piece: CallPiece) -> CallPiece:
    if known is None:
        return piece
    call_id, name = known.call_id or piece.call_id, known.name or piece.name
    return CallPiece(piece.key, call_id, name, known.arguments + piece.arguments)


def _tool_call(call: CallPiece) -> ToolCall:
    found = load_json(call.arguments)
    unread = {"…": call.arguments} if call.arguments else {}
    return ToolCall(call.call_id, call.name, found if isinstance(found, dict) else unread)
