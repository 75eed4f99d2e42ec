"""The paths that the offline model serves."""

import json

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.offline_model import decide
from chowder_local.relay.wire.errors import error_message
from chowder_local.relay.wire.wire_format import RenderedAnswer
from tests.scripted.model_calls import model_call
from tests.unit.relay.wire.steps import as_bytes

ANTHROPIC, OPENAI, GEMINI = ModelProvider


def answer(
    provider: ModelProvider, path: str, query: str, body: bytes
) -> tuple[RenderedAnswer, bytes]:
    given = model_call(provider, path, body, query).parse()
    if not isinstance(given, RenderedAnswer):
        given = given.render(decide(given.conversation))
    return given, as_bytes(given.steps)


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        (ANTHROPIC, "v1/models"),
        (OPENAI, "files"),
        (GEMINI, "models"),
        (GEMINI, "models/gemini-x:countTokens"),
    ],
)
def test_other_paths_are_not_found(provider: ModelProvider, path: str) -> None:
    given, whole = answer(provider, path, "", b"")

    assert given.status == 404
    assert path in error_message(whole)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"messages": [1]}', b"\xff", b"[" * 99_999])
def test_a_malformed_body_is_refused(body: bytes) -> None:
    given, whole = answer(ANTHROPIC, "v1/messages", "", body)

    assert given.status == 400
    assert "cannot read" in error_message(whole)


@pytest.mark.parametrize("content", ["x" * 4_000_000, "Tool:x: a\nUser: b\n" * 10_001])
def test_a_prompt_of_more_than_a_million_tokens_is_refused(content: str) -> None:
    body = {"messages": [{"role": "user", "content": content}]}
    given, whole = answer(ANTHROPIC, "v1/messages", "", json.dumps(body).encode())

    assert given.status == 400
    assert error_message(whole).startswith("prompt is too long: 10")
