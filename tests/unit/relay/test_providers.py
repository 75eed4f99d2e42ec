"""Where each provider's key travels, and how its errors read."""

import json

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.providers import (
    credential,
    error_body,
    error_code,
    error_words,
    is_overflow,
    token_of,
    wait_asked_for,
    without_key,
)

ANTHROPIC, OPENAI, GEMINI = ModelProvider


@pytest.mark.parametrize(
    ("provider", "headers", "query"),
    [
        (ANTHROPIC, {"x-api-key": "t"}, ""),
        (ANTHROPIC, {"authorization": "Bearer t"}, ""),
        (OPENAI, {"authorization": "bearer  t "}, ""),
        (GEMINI, {"x-goog-api-key": "t"}, "alt=sse"),
        (GEMINI, {}, "alt=sse&key=t"),
        (GEMINI, {"authorization": "Bearer t"}, ""),
    ],
)
def test_a_token_is_found_where_the_providers_clients_put_it(
    provider: ModelProvider, headers: dict[str, str], query: str
) -> None:
    assert token_of(provider, headers, query) == "t"


@pytest.mark.parametrize("provider", list(ModelProvider))
def test_a_request_without_a_token_has_none(provider: ModelProvider) -> None:
    assert token_of(provider, {"authorization": "Basic t"}, "") is None


def test_the_key_goes_out_in_the_providers_own_header() -> None:
    assert credential(ANTHROPIC, "k") == ("x-api-key", "k")
    assert credential(OPENAI, "k") == ("authorization", "Bearer k")
    assert credential(GEMINI, "k") == ("x-goog-api-key", "k")


def test_a_key_in_the_query_does_not_go_on() -> None:
    assert without_key("alt=sse&key=relay&x=") == "alt=sse&x="
    assert without_key("alt=sse&q=a%20b") == "alt=sse&q=a%20b"
    assert without_key("") == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"type":"error","error":{"type":"x","message":" invalid x-api-key "}}', None),
        (b'{"error":{"message":"invalid x-api-key","code":"c"}}', None),
        (b'[{"error":{"code":401,"message":"invalid x-api-key"}}]', None),
        (b'{"error":"invalid x-api-key"}', None),
        (b'{"message":"invalid x-api-key"}', None),
        (b" invalid x-api-key\n", None),
        (b'{"detail":"no message"}', '{"detail":"no message"}'),
        (b"[]", "[]"),
        (b"<html>" + b"x" * 400, "<html>" + "x" * 294),
        (b"\xff", "�"),
        (b"", ""),
    ],
)
def test_an_errors_words_are_read_from_any_shape(body: bytes, words: str | None) -> None:
    assert error_words(body) == (words if words is not None else "invalid x-api-key")


@pytest.mark.parametrize("provider", list(ModelProvider))
@pytest.mark.parametrize("status", [400, 401, 404])
def test_an_error_we_write_is_read_back(provider: ModelProvider, status: int) -> None:
    assert error_words(error_body(provider, status, "Words.")) == "Words."


def test_errors_have_each_providers_own_shape() -> None:
    assert json.loads(error_body(ANTHROPIC, 401, "w")) == {
        "type": "error",
        "error": {"type": "authentication_error", "message": "w"},
    }
    assert json.loads(error_body(OPENAI, 401, "w")) == {
        "error": {
            "message": "w",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }
    assert json.loads(error_body(GEMINI, 400, "w")) == {
        "error": {"code": 400, "message": "w", "status": "INVALID_ARGUMENT"}
    }


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after": "Wed, 25 Nov 2026 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_is_asked_for(headers: dict[str, str], wait_s: float | None) -> None:
    assert wait_asked_for(headers) == wait_s


def test_a_prompt_that_is_too_long_is_told_from_other_failures() -> None:
    assert is_overflow("prompt is too long: 250000 tokens > 200000 maximum")
    assert is_overflow("This model's maximum context length is 128000 tokens.")
    assert not is_overflow("Your credit balance is too low.")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": {"message": "x", "type": "tokens", "code": "rate_limit_exceeded"}}',
         "rate_limit_exceeded"),
        (b'{"type": "error", "error": {"type": "overloaded_error"}}', "overloaded_error"),
        (b'[{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}]', "RESOURCE_EXHAUSTED"),
        (b'{"error": {"type": "invalid_request_error", "code": null}}', None),
        (b'{"error": {"code": "no code, but words"}}', None),
        (b'{"error": "x"}', None),
        (b"gone", None),
    ],
)  # fmt: skip
def test_a_providers_code_is_found_where_it_writes_it(body: bytes, code: str | None) -> None:
    assert error_code(body) == code
