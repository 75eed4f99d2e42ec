"""Answers of several parts with steps, in each format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.openclaw.models import model_entry
from chowder_local.relay.calls import wire_format
from chowder_local.relay.scripts.rules import Cut, Pause, Verbatim
from chowder_local.relay.wire.conversation import USUAL_LIMIT_TOKENS, Reply, ToolCall, play
from chowder_local.upstream.sse import EventReader
from tests.scripted.model_calls import parse
from tests.unit.relay.wire.steps import as_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.relay.wire.wire_format import ParsedRequest

ANTHROPIC, OPENAI, GEMINI = ModelProvider
MESSAGES: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
CONTENTS: dict[str, Any] = {"contents": [{"parts": [{"text": "Hi"}]}]}
FORMATS = {
    "anthropic": (ANTHROPIC, "v1/messages", MESSAGES),
    "responses": (OPENAI, "responses", {"input": "Hi"}),
    "chat": (OPENAI, "chat/completions", MESSAGES),
    "gemini": (GEMINI, "models/g:generateContent", CONTENTS),
}
CALLS = (ToolCall("call_1", "exec", {"command": "ls"}), ToolCall("call_2", "read", {}))
BOTH = Reply("Let me see.", CALLS, stated_input_tokens=7, stated_output_tokens=3)


def question(kind: str, *, is_streamed: bool, more: dict[str, Any] | None = None) -> ParsedRequest:
    provider, path, body = FORMATS[kind]
    body = body | (more or {})
    query = ""
    if is_streamed and provider is GEMINI:
        path, query = path.replace("generate", "streamGenerate"), "alt=sse"
    elif is_streamed:
        body = body | {"stream": True}
    return parse(provider, path, body, query)


def events(data: bytes) -> list[dict[str, Any]]:
    found = [event.data for event in EventReader().feed(data)]
    return [json.loads(data) for data in found if data not in (None, "[DONE]")]


def of_anthropic(answer: dict[str, Any]) -> Any:
    parts = [part.get("text") or (part["name"], part["input"]) for part in answer["content"]]
    return parts, tuple(answer["usage"].values())


def of_responses(answer: dict[str, Any]) -> Any:
    parts = [
        item["content"][0]["text"]
        if item["type"] == "message"
        else (item["name"], json.loads(item["arguments"]))
        for item in answer["output"]
    ]
    assert len({item["id"] for item in answer["output"]}) == len(parts)
    return parts, (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"])


def of_chat(answer: dict[str, Any]) -> Any:
    message = answer["choices"][0]["message"]
    calls = [each["function"] for each in message["tool_calls"]]
    parts = [message["content"], *((each["name"], json.loads(each["arguments"])) for each in calls)]
    return parts, (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"])


def of_gemini(answer: dict[str, Any]) -> Any:
    parts = [
        part.get("text") or (part["functionCall"]["name"], part["functionCall"]["args"])
        for part in answer["candidates"][0]["content"]["parts"]
    ]
    usage = answer["usageMetadata"]
    return parts, (usage["promptTokenCount"], usage["candidatesTokenCount"])


READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "anthropic": of_anthropic,
    "responses": of_responses,
    "chat": of_chat,
    "gemini": of_gemini,
}


@pytest.mark.parametrize("kind", FORMATS)
def test_text_and_several_calls_are_written_whole(kind: str) -> None:
    answer = json.loads(as_bytes(question(kind, is_streamed=False).render(BOTH).steps))

    expected = ["Let me see.", ("exec", {"command": "ls"}), ("read", {})]
    assert READERS[kind](answer) == (expected, (7, 3))


LIMITS: dict[str, dict[str, Any]] = {
    "anthropic": {"max_tokens": 2},
    "responses": {"max_output_tokens": 2},
    "chat": {"max_completion_tokens": 2},
    "gemini": {"generationConfig": {"maxOutputTokens": 2}},
}
STOPS = {
    "anthropic": '"stop_reason": "max_tokens"',
    "responses": '"incomplete_details": {"reason": "max_output_tokens"}',
    "chat": '"finish_reason": "length"',
    "gemini": '"finishReason": "MAX_TOKENS"',
}


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_an_answer_ends_at_the_limit_of_tokens_with_the_providers_reason(
    kind: str, is_streamed: bool
) -> None:
    asked_for = question(kind, is_streamed=is_streamed, more=LIMITS[kind])
    paced = Reply("Let me see.", CALLS, steps=("Let me ", Pause(wait_s=0), "see.", Cut(cut=True)))
    steps = list(asked_for.render(paced).steps)
    assert Cut(cut=True) not in steps
    said = as_bytes(step for step in steps if isinstance(step, bytes))
    heard = wire_format(FORMATS[kind][0]).read_output(said)
    assert (heard.text, heard.calls) == ("Let me s", ())
    assert STOPS[kind].encode() in said
    shorter = Reply("Let me.", CALLS)
    assert STOPS[kind].encode() not in as_bytes(asked_for.render(shorter).steps)


def test_a_limit_that_openclaw_sets_by_itself_is_ignored() -> None:
    long = Reply("x" * 100_000)
    assert long.truncate(USUAL_LIMIT_TOKENS) is long
    lowest = min(model_entry(model)["maxTokens"] for model in ("claude-3", "gpt-4-", "gemini-1"))
    assert lowest >= USUAL_LIMIT_TOKENS


def test_a_stream_of_anthropics_has_a_block_for_each_part() -> None:
    given = events(as_bytes(question("anthropic", is_streamed=True).render(BOTH).steps))

    started = [e["content_block"] for e in given if e["type"] == "content_block_start"]
    assert [each["type"] for each in started] == ["text", "tool_use", "tool_use"]
    assert [e["index"] for e in given if e["type"] == "content_block_stop"] == [0, 1, 2]
    assert given[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_stream_of_responses_has_an_item_for_each_part() -> None:
    given = events(as_bytes(question("responses", is_streamed=True).render(BOTH).steps))

    done = [e for e in given if e["type"] == "response.output_item.done"]
    assert [each["output_index"] for each in done] == [0, 1, 2]
    assert [each["item"] for each in done] == given[-1]["response"]["output"]
    assert [each["sequence_number"] for each in given] == list(range(len(given)))


def test_a_stream_of_chat_completions_numbers_its_calls() -> None:
    given = events(as_bytes(question("chat", is_streamed=True).render(BOTH).steps))

    deltas = [chunk["choices"][0]["delta"] for chunk in given if chunk["choices"]]
    text = "".join(delta.get("content") or "" for delta in deltas)
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert text == "Let me see."
    assert [(each["index"], each["function"]["name"]) for each in calls if "id" in each] == [
        (0, "exec"),
        (1, "read"),
    ]


def test_a_stream_of_geminis_has_a_chunk_for_each_part_and_ends_once() -> None:
    given = events(as_bytes(question("gemini", is_streamed=True).render(BOTH).steps))

    candidates = [chunk["candidates"][0] for chunk in given]
    parts = [part for each in candidates for part in each["content"]["parts"]]
    assert [next(iter(part)) for part in parts] == ["text", "functionCall", "functionCall"]
    assert ["finishReason" in each for each in candidates] == [False, False, True]


@pytest.mark.parametrize("kind", FORMATS)
def test_steps_interrupt_a_stream_at_their_place(kind: str) -> None:
    interrupted = ("Once ", Pause(wait_s=1), "upon", Verbatim(raw="data: {\n\n"), Cut(cut=True))
    steps = list(
        question(kind, is_streamed=True).render(Reply("Once upon", steps=interrupted)).steps
    )

    told = [step if not isinstance(step, bytes) else b"Once " in step or b"upon" in step
            for step in steps]  # fmt: skip
    in_order = [each for each in told if each]
    assert in_order[:5] == [
        True,
        Pause(wait_s=1),
        True,
        Verbatim(raw="data: {\n\n"),
        Cut(cut=True),
    ]


@pytest.mark.parametrize("kind", FORMATS)
def test_steps_come_before_an_answer_that_is_not_streamed(kind: str) -> None:
    interrupted = ("Once ", Pause(wait_s=1), "upon", Cut(cut=True))
    steps = list(
        question(kind, is_streamed=False).render(Reply("Once upon", steps=interrupted)).steps
    )

    assert (steps[0], steps[1]) == (Pause(wait_s=1), Cut(cut=True))
    assert isinstance(steps[2], bytes)
    assert b"Once upon" in steps[2]


def test_an_answer_that_breaks_at_once_has_no_text() -> None:
    given = question("gemini", is_streamed=True).render(Reply(steps=(Cut(cut=True),)))

    assert next(iter(given.steps)) == Cut(cut=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_an_answer_is_played_until_it_breaks_off() -> None:
    playing = play([b"a", Pause(wait_s=0), Verbatim(raw="b"), Cut(cut=True), b"c"])

    assert [await anext(playing), await anext(playing)] == [b"a", b"b"]
    with pytest.raises(StreamBroken, match="cut the answer off"):
        await anext(playing)
