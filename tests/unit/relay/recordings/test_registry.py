"""Answers out of a recording, and what is said where it has none."""

from __future__ import annotations

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.recordings.entries import AnsweredCall, Asked, Entry
from chowder_local.relay.recordings.registry import Playback
from chowder_local.relay.wire.conversation import AssistantText, Conversation, UserMessage


def asked(*texts: str, model: str = "gpt-4o") -> Asked:
    turns = tuple(
        AssistantText(text) if number % 2 else UserMessage((text,))
        for number, text in enumerate(texts)
    )
    return Asked.of(ModelProvider.OPENAI, Conversation(model, "", turns))


def entry(answer: str, *texts: str) -> Entry:
    return Entry(asked=asked(*texts), answered=AnsweredCall(status=200, text=answer))


def text(playback: Playback, *texts: str) -> str | None:
    found = playback.answer(asked(*texts))
    assert isinstance(found, AnsweredCall)
    return found.text


def words(playback: Playback, question: Asked) -> str:
    assert playback.answer(question) is None
    return playback.describe_nearest(question)


def test_a_question_has_the_answer_that_it_had() -> None:
    playback = Playback({"1": entry("a", "Hi"), "2": entry("b", "Hi", "a", "And?")})
    assert [text(playback, "Hi"), text(playback, "Hi", "a", "And?")] == ["a", "b"]


def test_the_same_question_has_its_answers_in_order_and_then_the_last() -> None:
    playback = Playback({"1": entry("a", "Roll."), "2": entry("b", "Roll.")})
    assert [text(playback, "Roll.") for _ in range(3)] == ["a", "b", "b"]


def test_what_varies_makes_no_other_question() -> None:
    playback = Playback({"1": entry("a", "It is 2026-11-24T22:48:12Z")})
    assert text(playback, "It is 2027-01-01T00:00:00Z") == "a"


def test_a_miss_says_what_is_nearest_and_how_it_differs() -> None:
    playback = Playback(
        {"0001.json": entry("a", "Hi", "Hello", "Bye"), "0002.json": entry("b", "Weather?")}
    )
    assert words(playback, asked("Hi", "Hello", "Good night")) == (
        "The recording has no such model call. The nearest is 0001.json, but recorded was "
        "[said: Bye], asked is [said: Good night]."
    )


def test_what_is_there_only_now_or_only_then_is_told() -> None:
    playback = Playback({"0001.json": entry("a", "Hi", "Hello", "Bye")})
    assert "recorded was [answered: Hello / said: Bye], asked is [nothing]" in words(
        playback, asked("Hi")
    )
    assert "recorded was [nothing], asked is [answered: Ah]" in words(
        playback, asked("Hi", "Hello", "Bye", "Ah")
    )


def test_many_and_long_differences_are_cut() -> None:
    before = [word for number in range(9) for word in (f"same {number}", f"then {number}")]
    now = [word for number in range(9) for word in (f"same {number}", f"now {number}" + "x" * 300)]
    found = words(Playback({"0001.json": entry("a", *before)}), asked(*now))
    assert found.count("recorded was") == 6
    assert "; and 3 more." in found
    assert "x…" in found


def test_an_empty_recording_says_so() -> None:
    assert words(Playback({}), asked("Hi")) == "The recording has no model calls at all."
