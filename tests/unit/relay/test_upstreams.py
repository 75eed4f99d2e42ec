"""A call for one of the named providers: which one, and what of it is changed."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from chowder_local.core.model_endpoints import Endpoint
from chowder_local.relay.calls import ModelCall
from chowder_local.relay.upstreams import Upstreams

ENDPOINTS = {name: Endpoint(name, "http://127.0.0.1:9/v1") for name in ("lab", "ollama")}


def route(call: ModelCall) -> ModelCall:
    return Upstreams({}, ENDPOINTS, cast("Any", None)).route(call)


def call(body: bytes | dict[str, Any], provider: str = "other") -> ModelCall:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ModelCall(provider, "POST", "chat/completions", "", [], raw)


def test_the_models_id_says_whose_it_is_and_the_provider_gets_the_rest() -> None:
    asked = {"model": "lab/Qwen/Qwen3:8b", "messages": [{"role": "user", "content": "Ünï"}]}
    found = route(call(asked))
    assert found.provider == "lab"
    assert found.wire.provider == "openai"
    assert json.loads(found.body) == {**asked, "model": "Qwen/Qwen3:8b"}


def test_the_longest_answer_is_told_in_the_word_that_all_understand() -> None:
    found = route(call({"model": "ollama/a", "max_completion_tokens": 16}))
    assert json.loads(found.body) == {"model": "a", "max_tokens": 16}


def test_an_answer_is_not_cut_off_by_a_guess_of_openclaws_about_the_prompt() -> None:
    found = route(call({"model": "ollama/a", "max_completion_tokens": 1}))
    assert json.loads(found.body) == {"model": "a"}


@pytest.mark.parametrize(
    "body",
    [
        {"model": "nobody/a"}, {"model": "openai/gpt-4o"}, {"model": "lab"}, {"model": "lab/"},
        {"model": 1}, {}, [], b"", b"\xff", b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_names_none_of_them_stays_as_it_is(body: Any) -> None:
    asked = call(body)
    assert route(asked) is asked


def test_a_providers_own_call_is_not_looked_into() -> None:
    asked = call({"model": "lab/a"}, provider="openai")
    assert route(asked) is asked
