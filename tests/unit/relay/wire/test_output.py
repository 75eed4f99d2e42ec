"""Reading a model's output, streamed or not, in each provider's format."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.calls import wire_format
from chowder_local.relay.wire.conversation import Reply, ToolCall
from tests.scripted.model_calls import parse
from tests.unit.relay.wire.steps import as_bytes

TEXT = "Two pieces of text, or three, or four of them."
CALLS = (ToolCall("call_1", "exec", {"command": "ls"}), ToolCall("call_2", "read", {"path": "a"}))
MESSAGES = {"messages": [{"role": "user", "content": "Hi"}], "model": "m"}
REQUESTS: list[tuple[ModelProvider, str, dict[str, Any]]] = [
    (ModelProvider.ANTHROPIC, "v1/messages", MESSAGES | {"max_tokens": 99}),
    (ModelProvider.OPENAI, "v1/chat/completions", MESSAGES),
    (ModelProvider.OPENAI, "v1/responses", {"input": "Hi", "model": "m"}),
]
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


def answered(provider: ModelProvider, path: str, request: dict[str, Any], reply: Reply) -> bytes:
    """The offline model's answer with the reply."""
    return as_bytes(parse(provider, path, request, "alt=sse").render(reply).steps)


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize(("provider", "path", "request_"), REQUESTS)
def test_text_and_calls_are_read(
    provider: ModelProvider, path: str, request_: dict[str, Any], is_streamed: bool
) -> None:
    body = answered(provider, path, request_ | {"stream": is_streamed}, Reply(TEXT, CALLS))
    said = wire_format(provider).read_output(body)
    assert said.text == TEXT
    assert [(each.name, each.arguments) for each in said.calls] == [
        (each.name, each.arguments) for each in CALLS
    ]
    assert said.error is None


@pytest.mark.parametrize("verb", ["generateContent", "streamGenerateContent"])
def test_gemini_output_is_read(verb: str) -> None:
    path = f"v1beta/models/gemini-2.0-flash:{verb}"
    body = answered(ModelProvider.GEMINI, path, GEMINI, Reply(TEXT, CALLS))
    said = wire_format(ModelProvider.GEMINI).read_output(body)
    assert said.text == TEXT
    assert [each.name for each in said.calls] == ["exec", "read"]


ENDS = [
    (Reply(TEXT), "stop"),
    (Reply(TEXT, CALLS), "tool_call"),
    (Reply(TEXT, is_cut=True), "length"),
]


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize(("reply", "reason"), ENDS)
def test_why_an_answer_ends_is_read_in_one_word_for_all_providers(
    reply: Reply, reason: str, is_streamed: bool
) -> None:
    verb = "streamGenerateContent" if is_streamed else "generateContent"
    gemini = (ModelProvider.GEMINI, f"v1beta/models/gemini-2.0-flash:{verb}", GEMINI)
    for provider, path, request in (*REQUESTS, gemini):
        wanted = request if request is GEMINI else request | {"stream": is_streamed}
        body = answered(provider, path, wanted, reply)
        assert wire_format(provider).read_output(body).finish_reason == reason, path


def test_an_answer_without_its_end_does_not_say_why_it_ends() -> None:
    for provider, path, request in REQUESTS:
        body = answered(provider, path, request | {"stream": True}, Reply(TEXT))
        assert wire_format(provider).read_output(body[: len(body) // 2]).finish_reason is None
    failed = b'{"object": "response", "status": "failed", "output": []}'
    assert wire_format(ModelProvider.OPENAI).read_output(failed).finish_reason is None


@pytest.mark.parametrize("provider", ModelProvider)
def test_an_error_keeps_its_message(provider: ModelProvider) -> None:
    body = as_bytes(wire_format(provider).refuse(429, "Slow down.").steps)
    assert wire_format(provider).read_output(body).error == "Slow down."


NONSENSE = [
    b"",
    b"\xff",
    b"data: {",
    b"[1, 2]",
    b'{"choices": 1}',
    b'{"candidates": []}',
    b"[" * 100_000,
]


def test_malformed_answers_have_no_output() -> None:
    unlike = {}
    for body, provider in product(NONSENSE, ModelProvider):
        said = wire_format(provider).read_output(body)
        if (said.text, said.calls) != ("", ()):
            unlike[provider, body] = said
    assert not unlike


def test_an_answer_that_broke_off_has_the_output_so_far() -> None:
    provider, path, request = REQUESTS[0]
    body = answered(provider, path, request | {"stream": True}, Reply(TEXT))
    said = wire_format(provider).read_output(body[: len(body) // 2])
    assert said.text
    assert TEXT.startswith(said.text)
