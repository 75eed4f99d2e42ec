"""Replaying a recording, and the message for a call that it lacks."""

from __future__ import annotations

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.recordings import Playback, RecordedAnswer, RecordedCall, RecordedRequest
from chowder_local.relay.wire.conversation import (
    AssistantText,
    Conversation,
    ToolCall,
    UserMessage,
)


def request(*texts: str, model: str = "gpt-4o") -> RecordedRequest:
    turns = tuple(
        AssistantText(text) if number % 2 else UserMessage((text,))
        for number, text in enumerate(texts)
    )
    return RecordedRequest.from_conversation(ModelProvider.OPENAI, Conversation(model, "", turns))


def entry(answer: str, *texts: str) -> RecordedCall:
    return RecordedCall(asked=request(*texts), answered=RecordedAnswer(status=200, text=answer))


def text(playback: Playback, *texts: str) -> str | None:
    answer = playback.answer(request(*texts).lines())
    assert isinstance(answer, RecordedAnswer)
    return answer.text


def words(playback: Playback, question: RecordedRequest) -> str:
    assert playback.answer(question.lines()) is None
    return playback.describe_nearest(question.lines())


def test_a_request_gets_its_recorded_answer() -> None:
    playback = Playback({"1": entry("a", "Hi"), "2": entry("b", "Hi", "a", "And?")})
    assert [text(playback, "Hi"), text(playback, "Hi", "a", "And?")] == ["a", "b"]


def test_equal_requests_get_their_answers_in_order_and_then_the_last() -> None:
    playback = Playback({"1": entry("a", "Roll."), "2": entry("b", "Roll.")})
    assert [text(playback, "Roll.") for _ in range(3)] == ["a", "b", "b"]


def test_times_do_not_distinguish_requests() -> None:
    playback = Playback({"1": entry("a", "It is 2026-11-24T22:48:12Z")})
    assert text(playback, "It is 2027-01-01T00:00:00Z") == "a"


def test_a_tool_call_that_was_recorded_without_arguments_matches() -> None:
    bare, called = (
        RecordedRequest.from_conversation("openai", Conversation("gpt-4o", "", (call,)))
        for call in (ToolCall("1", "exec"), ToolCall("1", "exec", {"command": "id"}))
    )
    answer = RecordedAnswer(status=200, text="a")
    playback = Playback({"1": RecordedCall(asked=bare, answered=answer)})
    assert playback.answer(called.lines()) == answer


def test_a_miss_names_the_nearest_call_and_the_differences() -> None:
    playback = Playback(
        {"0001.json": entry("a", "Hi", "Hello", "Bye"), "0002.json": entry("b", "Weather?")}
    )
    assert words(playback, request("Hi", "Hello", "Good night")) == (
        "The recording has no such model call. The nearest is 0001.json: recorded "
        "[said: Bye], requested [said: Good night]."
    )


def test_turns_on_one_side_only_are_reported() -> None:
    playback = Playback({"0001.json": entry("a", "Hi", "Hello", "Bye")})
    assert "recorded [answered: Hello / said: Bye], requested [nothing]" in words(
        playback, request("Hi")
    )
    assert "recorded [nothing], requested [answered: Ah]" in words(
        playback, request("Hi", "Hello", "Bye", "Ah")
    )


def test_many_and_long_differences_are_cut() -> None:
    before = [word for number in range(9) for word in (f"same {number}", f"then {number}")]
    now = [word for number in range(9) for word in (f"same {number}", f"now {number}" + "x" * 300)]
    answer = words(Playback({"0001.json": entry("a", *before)}), request(*now))
    assert answer.count("recorded [") == 6
    assert "; and 3 more." in answer
    assert "x…" in answer


def test_an_empty_recording_says_so() -> None:
    assert words(Playback({}), request("Hi")) == "The recording has no model calls."
