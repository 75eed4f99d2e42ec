"""Routing and changing calls for named providers."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from chowder_local.core.model_endpoints import Endpoint
from chowder_local.relay.calls import RelayRequest
from chowder_local.relay.upstreams import Upstreams

ENDPOINTS = {name: Endpoint(name, "http://127.0.0.1:9/v1") for name in ("lab", "ollama")}


def route(request: RelayRequest) -> RelayRequest:
    return Upstreams({}, ENDPOINTS, cast("Any", None)).route(request)


def call(body: bytes | dict[str, Any], provider: str = "other") -> RelayRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RelayRequest(provider, "POST", "chat/completions", "", [], raw)


def test_the_prefix_of_a_model_id_selects_the_provider_and_is_removed() -> None:
    asked = {"model": "lab/Qwen/Qwen3:8b", "messages": [{"role": "user", "content": "Ünï"}]}
    found = route(call(asked))
    assert found.provider == "lab"
    assert found.wire.provider == "openai"
    assert json.loads(found.body) == {**asked, "model": "Qwen/Qwen3:8b"}


def test_the_token_limit_is_sent_by_its_older_name() -> None:
    found = route(call({"model": "ollama/a", "max_completion_tokens": 16}))
    assert json.loads(found.body) == {"model": "a", "max_tokens": 16}


def test_a_tiny_token_limit_of_openclaws_is_dropped() -> None:
    found = route(call({"model": "ollama/a", "max_completion_tokens": 1}))
    assert json.loads(found.body) == {"model": "a"}


@pytest.mark.parametrize(
    "body",
    [
        {"model": "nobody/a"}, {"model": "openai/gpt-4o"}, {"model": "lab"}, {"model": "lab/"},
        {"model": 1}, {}, [], b"", b"\xff", b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_call_without_a_known_endpoint_stays_as_it_is(body: Any) -> None:
    asked = call(body)
    assert route(asked) is asked


def test_a_large_providers_call_is_not_parsed() -> None:
    asked = call({"model": "lab/a"}, provider="openai")
    assert route(asked) is asked
