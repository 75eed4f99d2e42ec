"""Which streamed answers of named providers OpenClaw can make nothing of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chowder_local.relay.stream_check import StreamCheck


def chunk(finish_reason: str | None = None, **delta: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


WORDS, DONE = chunk(content="Once upon"), "data: [DONE]\n\n"
CALL = chunk(tool_calls=[{"index": 0, "function": {"name": "exec", "arguments": '{"comm'}}])


def problem(stream: str) -> str | None:
    check = StreamCheck()
    for byte in stream.encode():
        check.feed(bytes([byte]))
    check.end()
    return check.problem


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (WORDS, "it broke off before its end"),
        ("", "it broke off before its end"),
        (WORDS + "data: {oops\n\n", "it sent something else than a chunk of an answer: {oops"),
        ("data: [1]\n\n", "it sent something else than a chunk of an answer: [1]"),
        (WORDS + 'data: {"error": {"message": "out of memory", "code": 500}}\n\n' + DONE,
         "out of memory"),
        (WORDS + 'error: {"code": 500, "message": "the context size is exceeded"}\n\n',
         "the context size is exceeded"),
        ('data: {"object": "error", "message": "engine is dead"}\n\n' + DONE, "engine is dead"),
        (chunk(reasoning_content="Hm") + chunk("length") + DONE,
         "it met its limit of tokens before it said anything"),
        (CALL + chunk("length") + DONE, "it met its limit of tokens within a tool call"),
        (chunk("stop", content="") + DONE, "it ended without saying anything"),
    ],
)  # fmt: skip
def test_an_answer_of_no_use_has_words_that_say_why(stream: str, words: str) -> None:
    assert problem(stream) == words


@pytest.mark.parametrize(
    "stream",
    [
        WORDS + chunk("stop") + 'data: {"choices": [], "usage": {}}\n\n' + DONE,
        WORDS + chunk("length") + DONE,
        ": waiting\n\n" + CALL + chunk("tool_calls") + DONE,
        # Some end without the mark of OpenAI's.
        WORDS + chunk("stop"),
    ],
)
def test_an_answer_that_can_be_used_has_none(stream: str) -> None:
    assert problem(stream) is None
