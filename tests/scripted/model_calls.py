"""Model calls for tests, in a provider's format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.relay.calls import RelayRequest
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from chowder_local.relay.wire.conversation import Conversation


Body = bytes | dict[str, Any]


def model_call(provider: str, path: str, body: Body, query: str = "") -> RelayRequest:
    """A POST with that body."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RelayRequest(provider, "POST", path, query, (), raw)


def parse(provider: str, path: str, body: Body, query: str = "", created: int = 7) -> ParsedRequest:
    """The parsed request of such a call."""
    parsed = model_call(provider, path, body, query).parse(created)
    assert isinstance(parsed, ParsedRequest)
    return parsed


def conversation_of(provider: str, path: str, body: dict[str, Any]) -> Conversation:
    """The conversation in such a call."""
    return parse(provider, path, body).conversation
