"""OpenAI's embeddings, as small vectors that depend on nothing but the text."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
from typing import TYPE_CHECKING, Any

from chowder_local.relay.wire.conversation import count_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIMENSIONS = 64


def render(body: Mapping[str, Any]) -> bytes:
    given = body["input"]
    # A list of numbers is one text, in tokens.
    is_one = isinstance(given, str) or (bool(given) and isinstance(given[0], int))
    texts = [given if isinstance(given, str) else json.dumps(given)] if is_one else list(given)
    size = int(body.get("dimensions") or _DIMENSIONS)
    vectors = [_vector(text if isinstance(text, str) else json.dumps(text), size) for text in texts]
    count = sum(count_tokens(str(text)) for text in texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, body)}
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


def _encoded(vector: list[float], body: Mapping[str, Any]) -> list[float] | str:
    if body.get("encoding_format") != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
