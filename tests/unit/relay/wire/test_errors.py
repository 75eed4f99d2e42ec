"""The providers' key headers and error formats."""

import json

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.calls import wire_format
from chowder_local.relay.wire.errors import (
    Overflow,
    error_code,
    error_message,
    is_overflow,
    read_overflow,
    retry_wait_s,
)
from chowder_local.relay.wire.wire_format import strip_key

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
    assert wire_format(provider).read_token(headers, query) == "t"


@pytest.mark.parametrize("provider", list(ModelProvider))
def test_a_request_without_a_token_has_none(provider: ModelProvider) -> None:
    assert wire_format(provider).read_token({"authorization": "Basic t"}, "") is None


def test_the_key_is_sent_in_the_providers_own_header() -> None:
    assert wire_format(ANTHROPIC).credential("k") == ("x-api-key", "k")
    assert wire_format(OPENAI).credential("k") == ("authorization", "Bearer k")
    assert wire_format(GEMINI).credential("k") == ("x-goog-api-key", "k")


def test_a_key_in_the_query_is_removed() -> None:
    assert strip_key("alt=sse&key=relay&x=") == "alt=sse&x="
    assert strip_key("alt=sse&q=a%20b") == "alt=sse&q=a%20b"
    assert strip_key("") == ""


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
def test_an_error_message_is_read_from_any_shape(body: bytes, words: str | None) -> None:
    assert error_message(body) == (words if words is not None else "invalid x-api-key")


@pytest.mark.parametrize("provider", list(ModelProvider))
@pytest.mark.parametrize("status", [400, 401, 404])
def test_an_error_we_write_is_read_back(provider: ModelProvider, status: int) -> None:
    assert error_message(wire_format(provider).error_body(status, "Words.")) == "Words."


def test_errors_have_each_providers_own_shape() -> None:
    assert json.loads(wire_format(ANTHROPIC).error_body(401, "w")) == {
        "type": "error",
        "error": {"type": "authentication_error", "message": "w"},
    }
    assert json.loads(wire_format(OPENAI).error_body(401, "w")) == {
        "error": {
            "message": "w",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }
    assert json.loads(wire_format(GEMINI).error_body(400, "w")) == {
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
def test_the_wait_is_read_from_the_headers(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_wait_s(headers) == wait_s


def test_a_prompt_that_is_too_long_is_distinguished_from_other_failures() -> None:
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


@pytest.mark.parametrize(
    ("words", "overflow"),
    [
        ("request (9000 tokens) exceeds the available context size (8192 tokens), try more",
         Overflow(9000, 8192)),
        ("This model's maximum context length is 4096 tokens. However, you requested 9100 tokens "
         "(9000 in the messages, 100 in the completion). Please reduce the length.",
         Overflow(9000, 4096)),
        ("This model's maximum context length is 4096 tokens. However, you requested 9000 tokens "
         "in the messages, Please reduce the length of the messages.",
         Overflow(9000, 4096)),
        ("This model's maximum context length is 4096 tokens. However, your request has 9000 input "
         "tokens. Please reduce the length of the input messages.",
         Overflow(9000, 4096)),
        ("Trying to keep the first 9000 tokens when context the overflows. However, the model is "
         "loaded with context length of only 4096 tokens, which is not enough.",
         Overflow(9000, 4096)),
        ("the request exceeds the available context size. try increasing the context size", None),
    ],
)  # fmt: skip
def test_the_numbers_of_a_refusal_are_read(words: str, overflow: Overflow | None) -> None:
    assert read_overflow(words) == overflow
