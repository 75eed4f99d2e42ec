"""Matching rules, and the answers of their actions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.prompt_format import HANDED_OVER, ModelRequest
from chowder_local.relay.scripts.expressions import TimeLimit
from chowder_local.relay.scripts.registry import Refusal, ScriptedAnswer, find_answer, make_answer
from chowder_local.relay.scripts.rules import Cut, Pause, Rule, Verbatim
from chowder_local.relay.wire.conversation import (
    Conversation,
    Reply,
    ToolCall,
    ToolResult,
    UserMessage,
)

REQUEST = ModelRequest(
    provider=ModelProvider.OPENAI,
    model="gpt-4o",
    turn=2,
    text="What is the Weather in Paris?",
    session="alpha",
    is_session_known=True,
    digest="d" * 64,
)
RESULT = replace(REQUEST, round=1, called="exec", result="It is 21 degrees")


def rule(reply: Any = "yes", **match: Any) -> Rule:
    return Rule.model_validate({"match": match, "reply": reply})


def answer(reply: Any, request: ModelRequest = REQUEST, **match: Any) -> ScriptedAnswer:
    made = rule(reply, **match)
    limit = TimeLimit()
    at = find_answer(made, request, limit)
    assert at is not None
    return ScriptedAnswer("r", *make_answer(made, made.answers[at], request, limit))


def test_a_rule_without_a_match_matches_any_message() -> None:
    assert find_answer(rule(), REQUEST, TimeLimit()) == 0


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
    ({"job": "report"}, False),
    ({"model": "gpt-*"}, True),
    ({"model": "claude-*"}, False),
    ({"provider": "openai"}, True),
    ({"provider": "gemini"}, False),
    ({"text": "weather", "turn": 1}, False),
    ({"tool": "exec"}, False),
    ({"result": ""}, False),
]


def test_a_rule_matches_if_all_members_match() -> None:
    met = [
        (match, find_answer(rule(**match), REQUEST, TimeLimit()) == 0) for match, _ in OF_A_MESSAGE
    ]
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
    # The message was answered before, by the call whose result came.
    ({"text": "weather"}, False),
    ({}, False),
]


def test_a_rule_about_a_result_matches_results_only() -> None:
    met = [
        (match, find_answer(rule(**match), RESULT, TimeLimit()) == 0) for match, _ in OF_A_RESULT
    ]
    assert met == OF_A_RESULT


def test_null_matches_the_main_session_but_not_an_unknown_one() -> None:
    main, unknown = (
        replace(REQUEST, session=None),
        replace(REQUEST, session=None, is_session_known=False),
    )

    assert find_answer(rule(session=None), main, TimeLimit()) == 0
    assert find_answer(rule(session=None), unknown, TimeLimit()) is None
    assert find_answer(rule(), unknown, TimeLimit()) == 0


def test_a_list_has_one_answer_for_each_round_of_tool_results() -> None:
    made = rule([{"call": "exec"}, {"call": "read"}, "Done."], text="weather")

    places = [find_answer(made, replace(REQUEST, round=number), TimeLimit()) for number in range(4)]
    assert places == [0, 1, 2, None]


def test_a_plain_text_is_not_a_template() -> None:
    assert answer("{{ no template }}") == ScriptedAnswer("r", Reply("{{ no template }}"))


def test_a_template_has_the_values_of_the_request() -> None:
    template = "{{ groups[1] }} {{ groups.sky }} {{ turn }} {{ session }} {{ model }} {{ tool }}"

    given = answer({"template": template}, regex=r"(?P<sky>W\w+) in (\w+)")

    assert given.answer == Reply("Weather Weather 2 alpha gpt-4o None")


def test_a_template_has_the_tool_and_its_result() -> None:
    given = answer({"template": "{{ tool }}: {{ result }}"}, RESULT, tool="exec")

    assert given.answer == Reply("exec: It is 21 degrees")


def test_a_template_that_fails_is_an_error_with_the_reason() -> None:
    given = answer({"template": "{{ groups[7] }}"})

    assert isinstance(given.answer, Refusal)
    assert given.answer.status == 400
    assert "there is no group 7" in given.answer.message


def test_chunks_are_streamed_with_their_steps() -> None:
    chunks = ["Once ", {"wait_s": 2}, {"raw": "data: {\n\n"}, "upon", {"cut": True}]

    given = answer({"chunks": chunks, "delay_s": 3})

    steps = ("Once ", Pause(wait_s=2), Verbatim(raw="data: {\n\n"), "upon", Cut(cut=True))
    assert given == ScriptedAnswer("r", Reply("Once upon", steps=steps), delay_s=3)


def test_a_pace_puts_pauses_between_pieces() -> None:
    given = answer({"text": "one two three four five", "pace_s": 0.5})

    assert isinstance(given.answer, Reply)
    assert given.answer.steps == ("one two three ", Pause(wait_s=0.5), "four five")


def test_tools_are_called_with_ids_that_are_always_the_same() -> None:
    calls = [{"name": "exec", "arguments": {"command": "ls"}}, {"name": "read"}]

    given = answer({"text": "Let me see.", "calls": calls})

    assert given.answer == Reply(
        "Let me see.",
        (ToolCall(f"call_{'d' * 22}00", "exec", {"command": "ls"}),
         ToolCall(f"call_{'d' * 22}01", "read")),
    )  # fmt: skip
    assert answer({"call": "exec", "arguments": {"a": 1}}).answer == Reply(
        calls=(ToolCall(f"call_{'d' * 22}00", "exec", {"a": 1}),)
    )


def test_an_answer_reports_the_stated_usage() -> None:
    given = answer({"text": "Hi", "usage": {"input_tokens": 7, "output_tokens": 0}})

    assert isinstance(given.answer, Reply)
    assert (given.answer.stated_input_tokens, given.answer.stated_output_tokens) == (7, 0)
    assert given.answer.output_tokens == 0


def test_an_error_is_the_providers() -> None:
    given = answer({"error": 429, "message": "Slow down.", "retry_after_s": 2, "delay_s": 1})

    assert given == ScriptedAnswer("r", Refusal(429, "Slow down.", 2), delay_s=1)


@pytest.mark.parametrize(
    ("provider", "status"),
    [(ModelProvider.ANTHROPIC, 529), (ModelProvider.OPENAI, 503), (ModelProvider.GEMINI, 503)],
)
def test_overloaded_has_the_providers_own_status(provider: ModelProvider, status: int) -> None:
    given = answer({"error": "overloaded"}, replace(REQUEST, provider=provider))

    assert isinstance(given.answer, Refusal)
    assert given.answer.status == status


def test_additions_of_openclaw_are_not_part_of_the_request() -> None:
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

    request = ModelRequest.from_conversation(
        conversation, ModelProvider.OPENAI, "alpha", is_session_known=True
    )

    assert request == ModelRequest(
        ModelProvider.OPENAI, "gpt-4o", 2, "What is the time?", 2, "exec", "one", "alpha", True,
        text_before="Hi",
    )  # fmt: skip


def test_a_clients_function_is_one_round_of_results() -> None:
    turns = (
        UserMessage(("Weather?",)),
        ToolCall("1", "get_weather"),
        ToolResult("1", f"{{{HANDED_OVER}}}"),
        UserMessage(("Tool:1: sunny",)),
    )

    request = ModelRequest.from_conversation(
        Conversation("gpt-4o", "", turns), ModelProvider.OPENAI, None, is_session_known=False
    )

    assert (request.round, request.tool, request.result) == (1, "get_weather", "sunny")


def test_a_jobs_message_has_its_name_and_its_own_words() -> None:
    job = (
        "[cron:9c30-d9 morning report] It is nine\nCurrent time: Tuesday\nReference UTC: 2026\n\n"
        "This is an unattended scheduled run."
    )
    turns = (
        UserMessage(("Hi",)),
        UserMessage((job,)),
        UserMessage(("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>",)),
    )

    request = ModelRequest.from_conversation(Conversation("gpt-4o", "", turns))

    assert (request.job, request.text, request.turn) == ("morning report", "It is nine", 2)
    assert find_answer(rule(job="morning report", equals="It is nine"), request, TimeLimit()) == 0
    assert find_answer(rule(job="evening report"), request, TimeLimit()) is None
    later = ModelRequest.from_conversation(
        Conversation("m", "", (*turns, UserMessage(("Thanks",))))
    )
    assert later.job is None


def test_a_conversation_without_messages_is_a_request() -> None:
    request = ModelRequest.from_conversation(
        Conversation("gpt-4o", "", ()), ModelProvider.OPENAI, None, is_session_known=False
    )

    assert (request.turn, request.text, request.round) == (0, "", 0)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (REQUEST, "turn 2 in 'alpha', \"What is the Weather in Paris?\", model gpt-4o"),
        (
            replace(REQUEST, session=None, text="x" * 300),
            f'turn 2 in the main session, "{"x" * 200}…"',
        ),
        (replace(RESULT, is_session_known=False), 'after exec returned "It is 21 degrees", model'),
    ],
)
def test_a_request_is_described_for_error_messages(seen: ModelRequest, words: str) -> None:
    assert words in str(seen)
