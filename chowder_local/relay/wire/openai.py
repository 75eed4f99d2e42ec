"""OpenAI's formats: Responses, Chat Completions and embeddings."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.wire import openai_chat, openai_responses
from chowder_local.relay.wire.conversation import count_tokens
from chowder_local.relay.wire.wire_format import (
    Usage,
    WireFormat,
    bearer,
    read_bearer,
    read_count,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chowder_local.relay.wire.request_format import RequestFormat
    from chowder_local.relay.wire.wire_format import CallPiece

_DIMENSIONS = 64
MAX_NUMBERS = 200_000


class OpenAI(WireFormat):
    provider = ModelProvider.OPENAI
    end_marks = (b"response.completed", b"response.incomplete", b"finish_reason")

    def read_token(self, headers: Mapping[str, str], query: str) -> str | None:
        return read_bearer(headers)

    def credential(self, key: str) -> tuple[str, str]:
        return bearer(key)

    def system_prompt(self, content: Mapping[str, Any]) -> str:
        return openai_responses.system_prompt(content)

    def _find_format(
        self, path: str, query: str, created: int
    ) -> RequestFormat | Callable[[Any], bytes] | None:
        match path.removeprefix("v1/"):
            case "responses":
                return openai_responses.Responses(created)
            case "chat/completions":
                return openai_chat.ChatCompletions(created)
            case "embeddings":
                return render_embeddings
        return None

    def restrict_tools(
        self, content: Mapping[str, Any], *, is_demanded: bool, is_single: bool
    ) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if is_demanded and content.get("tool_choice") in (None, "auto"):
            changes["tool_choice"] = "required"
        if is_single:
            changes["parallel_tool_calls"] = False
        return changes

    def _error(self, status: int, message: str) -> dict[str, Any]:
        code = "invalid_api_key" if status == 401 else None
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        return {"error": error}

    def _read_message(self, message: Mapping[str, Any]) -> Iterator[str | CallPiece]:
        if "choices" in message:
            return openai_chat.read_message(message)
        return openai_responses.read_message(message)

    def read_usage(self, counts: Mapping[str, Any]) -> Usage:
        # The Responses API, then Chat Completions and embeddings.
        name = "input_tokens" if "input_tokens" in counts else "prompt_tokens"
        details = counts.get(f"{name}_details") or {}
        completion_tokens = read_count(counts, "completion_tokens")
        return Usage(
            input_tokens=read_count(counts, name, is_needed=True),
            cached_tokens=read_count(details, "cached_tokens"),
            cache_write_tokens=read_count(details, "cache_write_tokens"),
            output_tokens=read_count(counts, "output_tokens") + completion_tokens,
        )

    def is_end(self, event: Mapping[str, Any]) -> bool:
        # The Responses API, then Chat Completions.
        if "type" in event:
            return event["type"] in {"response.completed", "response.incomplete"}
        return any(choice.get("finish_reason") for choice in event["choices"])


def render_embeddings(body: Mapping[str, Any]) -> bytes:
    """The answer to a request for embeddings: small vectors that depend on the text only."""
    inputs = body["input"]
    # A list of numbers is one text as tokens.
    is_one = isinstance(inputs, str) or (bool(inputs) and isinstance(inputs[0], int))
    texts = [inputs if isinstance(inputs, str) else json.dumps(inputs)] if is_one else list(inputs)
    size = int(body.get("dimensions") or _DIMENSIONS)
    if size * len(texts) > MAX_NUMBERS:
        raise ValueError(f"embeddings of more than {MAX_NUMBERS} numbers together")
    vectors = [_vector(text if isinstance(text, str) else json.dumps(text), size) for text in texts]
    count = sum(count_tokens(str(text)) for text in texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _encode_vector(vector, body)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": count, "total_tokens": count}
    whole = {"object": "list", "model": body.get("model", ""), "data": data, "usage": usage}
    return json.dumps(whole).encode()


def _vector(text: str, size: int) -> list[float]:
    stretched = hashlib.shake_256(text.encode()).digest(size * 2)
    numbers = [value / 32768 for value in struct.unpack(f"<{size}h", stretched)]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def _encode_vector(vector: list[float], body: Mapping[str, Any]) -> list[float] | str:
    if body.get("encoding_format") != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
