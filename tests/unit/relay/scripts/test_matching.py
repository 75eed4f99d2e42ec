"""Which rule is about what, and what it answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.prompt_format.system_prompt import HANDED_OVER
from chowder_local.relay.scripts.matching import (
    Ask,
    Refusal,
    ScriptedAnswer,
    find_answer,
    make_answer,
)
from chowder_local.relay.scripts.patterns import TimeLimit
from chowder_local.relay.scripts.rules import Break, Pause, Rule, Verbatim
from chowder_local.relay.wire.conversation import Conversation, ToolCall, ToolResult, UserMessage
from chowder_local.relay.wire.reply import Reply

ASK = Ask(
    provider=ModelProvider.OPENAI,
    model="gpt-4o",
    turn=2,
    text="What is the Weather in Paris?",
    session="alpha",
    is_session_known=True,
)
RESULT = replace(ASK, round=1, tool="exec", result="It is 21 degrees")


def rule(reply: Any = "yes", **match: Any) -> Rule:
    return Rule.model_validate({"match": match, "reply": reply})


def said(reply: Any, asked: Ask = ASK, **match: Any) -> ScriptedAnswer:
    made = rule(reply, **match)
    limit = TimeLimit()
    at = find_answer(made, asked, limit)
    assert at is not None
    return ScriptedAnswer("r", *make_answer(made, made.answers[at], asked, "d" * 64, limit))


def test_a_rule_without_a_match_is_about_all_that_is_said() -> None:
    assert find_answer(rule(), ASK, TimeLimit()) == 0


OF_A_MESSAGE: list[tuple[dict[str, Any], bool]] = [
    ({"text": "weather in paris"}, True),
    ({"text": "weather in rome"}, False),
    ({"equals": " What is the Weather in Paris?"}, True),
    ({"equals": "What is the weather in Paris?"}, False),
    ({"equals": "Paris"}, False),
    ({"regex": r"in (\w+)\?$"}, True),
    ({"regex": "WEATHER"}, False),
    ({"turn": 2}, True),
    ({"turn": 1}, False),
    ({"session": "alpha"}, True),
    ({"session": "beta"}, False),
    ({"session": None}, False),
    ({"model": "gpt-*"}, True),
    ({"model": "claude-*"}, False),
    ({"provider": "openai"}, True),
    ({"provider": "gemini"}, False),
    ({"text": "weather", "turn": 1}, False),
    ({"tool": "exec"}, False),
    ({"result": ""}, False),
]


def test_a_rule_is_about_what_its_match_says() -> None:
    met = [(match, find_answer(rule(**match), ASK, TimeLimit()) == 0) for match, _ in OF_A_MESSAGE]
    assert met == OF_A_MESSAGE


OF_A_RESULT: list[tuple[dict[str, Any], bool]] = [
    ({"tool": "exec"}, True),
    ({"tool": "read"}, False),
    ({"result": "DEGREES"}, True),
    ({"result": "fathoms"}, False),
    ({"result_equals": "It is 21 degrees"}, True),
    ({"result_equals": "21 degrees"}, False),
    ({"result_regex": r"\d+"}, True),
    ({"result_regex": r"^\d+"}, False),
    ({"tool": "exec", "text": "weather"}, True),
    ({"tool": "exec", "text": "storm"}, False),
    # What was said has been answered, by the call that came back.
    ({"text": "weather"}, False),
    ({}, False),
]


def test_a_rule_about_a_result_is_about_nothing_else() -> None:
    met = [
        (match, find_answer(rule(**match), RESULT, TimeLimit()) == 0) for match, _ in OF_A_RESULT
    ]
    assert met == OF_A_RESULT


def test_the_main_session_is_null_and_one_that_nobody_knows_is_none() -> None:
    main, unknown = replace(ASK, session=None), replace(ASK, session=None, is_session_known=False)

    assert find_answer(rule(session=None), main, TimeLimit()) == 0
    assert find_answer(rule(session=None), unknown, TimeLimit()) is None
    assert find_answer(rule(), unknown, TimeLimit()) == 0


def test_a_list_has_an_answer_for_each_time_that_tools_come_back() -> None:
    made = rule([{"call": "exec"}, {"call": "read"}, "Done."], text="weather")

    places = [find_answer(made, replace(ASK, round=number), TimeLimit()) for number in range(4)]
    assert places == [0, 1, 2, None]


def test_words_are_said_as_they_are() -> None:
    assert said("{{ no template }}") == ScriptedAnswer("r", Reply("{{ no template }}"))


def test_a_template_knows_what_was_asked() -> None:
    template = "{{ groups[1] }} {{ groups.sky }} {{ turn }} {{ session }} {{ model }} {{ tool }}"

    given = said({"template": template}, regex=r"(?P<sky>W\w+) in (\w+)")

    assert given.answer == Reply("Weather Weather 2 alpha gpt-4o None")


def test_a_template_knows_what_came_back() -> None:
    given = said({"template": "{{ tool }}: {{ result }}"}, RESULT, tool="exec")

    assert given.answer == Reply("exec: It is 21 degrees")


def test_a_template_that_fails_is_an_error_that_says_why() -> None:
    given = said({"template": "{{ groups[7] }}"})

    assert isinstance(given.answer, Refusal)
    assert given.answer.status == 400
    assert "there is no groups 7" in given.answer.words


def test_chunks_are_streamed_as_they_are_told() -> None:
    chunks = ["Once ", {"wait_s": 2}, {"raw": "data: {\n\n"}, "upon", {"cut": True}]

    given = said({"chunks": chunks, "delay_s": 3})

    steps = ("Once ", Pause(wait_s=2), Verbatim(raw="data: {\n\n"), "upon", Break(cut=True))
    assert given == ScriptedAnswer("r", Reply("Once upon", steps=steps), delay_s=3)


def test_a_pace_is_kept_between_pieces() -> None:
    given = said({"text": "one two three four five", "pace_s": 0.5})

    assert isinstance(given.answer, Reply)
    assert given.answer.steps == ("one two three ", Pause(wait_s=0.5), "four five")


def test_tools_are_called_with_ids_that_are_always_the_same() -> None:
    calls = [{"name": "exec", "arguments": {"command": "ls"}}, {"name": "read"}]

    given = said({"text": "Let me see.", "calls": calls})

    assert given.answer == Reply(
        "Let me see.",
        (ToolCall(f"call_{'d' * 22}00", "exec", {"command": "ls"}),
         ToolCall(f"call_{'d' * 22}01", "read")),
    )  # fmt: skip
    assert said({"call": "exec", "arguments": {"a": 1}}).answer == Reply(
        calls=(ToolCall(f"call_{'d' * 22}00", "exec", {"a": 1}),)
    )


def test_an_answer_says_what_it_took() -> None:
    given = said({"text": "Hi", "usage": {"input_tokens": 7, "output_tokens": 0}})

    assert isinstance(given.answer, Reply)
    assert (given.answer.stated_input_tokens, given.answer.stated_output_tokens) == (7, 0)
    assert given.answer.output_tokens == 0


def test_an_error_is_the_providers() -> None:
    given = said({"error": 429, "message": "Slow down.", "retry_after_s": 2, "delay_s": 1})

    assert given == ScriptedAnswer("r", Refusal(429, "Slow down.", 2), delay_s=1)


@pytest.mark.parametrize(
    ("provider", "status"),
    [(ModelProvider.ANTHROPIC, 529), (ModelProvider.OPENAI, 503), (ModelProvider.GEMINI, 503)],
)
def test_overloaded_is_said_in_the_providers_own_way(provider: ModelProvider, status: int) -> None:
    given = said({"error": "overloaded"}, replace(ASK, provider=provider))

    assert isinstance(given.answer, Refusal)
    assert given.answer.status == status


def test_what_openclaw_adds_is_not_what_is_asked() -> None:
    added = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>x<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
    conversation = Conversation(
        "gpt-4o",
        "",
        (
            UserMessage(("[Tue 2026-11-24 22:48 UTC] Hi",)),
            UserMessage(("[Tue 2026-11-24 22:49 UTC] What is the time?", added)),
            ToolCall("1", "exec"),
            ToolCall("2", "read"),
            ToolResult("1", "noon"),
            ToolResult("2", "a file"),
            ToolCall("3", "exec"),
            ToolResult("3", "one"),
        ),
    )

    asked = Ask.of(ModelProvider.OPENAI, conversation, "alpha", is_session_known=True)

    assert asked == Ask(
        ModelProvider.OPENAI, "gpt-4o", 2, "What is the time?", 2, "exec", "one", "alpha", True
    )


def test_a_function_of_the_clients_comes_back_once() -> None:
    turns = (
        UserMessage(("Weather?",)),
        ToolCall("1", "get_weather"),
        ToolResult("1", f"{{{HANDED_OVER}}}"),
        UserMessage(("Tool:1: sunny",)),
    )

    asked = Ask.of(
        ModelProvider.OPENAI, Conversation("gpt-4o", "", turns), None, is_session_known=False
    )

    assert (asked.round, asked.tool, asked.result) == (1, "get_weather", "sunny")


def test_nothing_at_all_can_be_asked() -> None:
    asked = Ask.of(
        ModelProvider.OPENAI, Conversation("gpt-4o", "", ()), None, is_session_known=False
    )

    assert (asked.turn, asked.text, asked.round) == (0, "", 0)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (ASK, "turn 2 in 'alpha', \"What is the Weather in Paris?\", of gpt-4o"),
        (replace(ASK, session=None, text="x" * 300), f'turn 2 in the main session, "{"x" * 200}…"'),
        (replace(RESULT, is_session_known=False), 'after exec came to "It is 21 degrees", of'),
    ],
)
def test_what_is_asked_is_told_in_words(asked: Ask, words: str) -> None:
    assert words in str(asked)
