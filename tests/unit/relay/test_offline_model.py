"""What the offline model replies."""

from dataclasses import replace
from typing import Any

import pytest

from chowder_local.relay.offline_model import decide
from chowder_local.relay.prompt_format import ONE_AT_A_TIME
from chowder_local.relay.wire.conversation import (
    AssistantText,
    Conversation,
    PromptTool,
    PromptTurn,
    Reply,
    ToolCall,
    ToolChoice,
    ToolResult,
    UserMessage,
)

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = PromptTool("get_weather", CITY)
EXEC = PromptTool("exec", {"properties": {"command": {"type": "string"}}, "required": ["command"]})
OPENCLAW = (
    "You are an agent.\n## Tooling\nCase-sensitive.\n- exec: Run shell\n- tool_call\n## Next\n"
)


def chat(*turns: PromptTurn | str, **more: Any) -> Conversation:
    messages = tuple(UserMessage((turn,)) if isinstance(turn, str) else turn for turn in turns)
    return Conversation("m", more.pop("system", ""), messages, digest="d" * 64, **more)


def call_of(conversation: Conversation) -> tuple[str, dict[str, Any]] | None:
    calls = decide(conversation).calls
    return (calls[0].name, dict(calls[0].arguments)) if calls else None


def test_the_first_turn_quotes_the_message() -> None:
    assert decide(chat("Hey!")) == Reply('[offline] Turn 1. You said: "Hey!"')


def test_a_later_turn_proves_memory() -> None:
    reply = decide(chat("Hey! Who are you?", AssistantText("…"), "What did I just ask you?"))

    assert reply.text == (
        '[offline] Turn 2. You said: "What did I just ask you?" Before that: "Hey! Who are you?"'
    )


def test_internal_context_is_neither_a_turn_nor_echoed() -> None:
    internal = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nx\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"

    assert decide(chat("Hey!", internal)).text == '[offline] Turn 1. You said: "Hey!"'


def test_long_quotes_are_cut() -> None:
    assert decide(chat("x" * 2001)).text.endswith("x" * 2000 + '…"')
    assert decide(chat("x" * 2000)).text.endswith("x" * 2000 + '"')


def test_no_message_at_all_is_turn_zero() -> None:
    assert decide(chat()).text == '[offline] Turn 0. You said: ""'
    assert call_of(chat(tools=(WEATHER,), choice=ToolChoice("required"))) is None


def test_a_tool_is_called_when_the_message_says_so() -> None:
    text = 'Please call get_weather {"city": "Paris", "days": [1]} now.'

    assert call_of(chat(text, tools=(EXEC, WEATHER))) == (
        "get_weather",
        {"city": "Paris", "days": [1]},
    )


@pytest.mark.parametrize(
    "text",
    ["Call get_weather.", "call `get_weather`", "call get_weather {broken", "call get_weather []"],
)
def test_without_json_the_arguments_come_from_the_schema(text: str) -> None:
    assert call_of(chat(text, tools=(WEATHER,))) == ("get_weather", {"city": "text"})


def test_an_empty_object_is_taken_as_it_is() -> None:
    assert call_of(chat("call get_weather {}", tools=(WEATHER,))) == ("get_weather", {})


def test_each_line_with_a_call_is_a_call_of_its_own() -> None:
    text = (
        'call get_weather {"city":\n"Paris"}, call exec\nCall exec\ncall nothing\ncall get_weather'
    )
    conversation = chat(text, tools=(EXEC, WEATHER))
    # A request's digest may have the number of a later call in it.
    conversation = replace(conversation, digest="d" * 22 + "01" + "d" * 40)
    calls = decide(conversation).calls
    assert [(each.name, each.arguments) for each in calls] == [
        ("get_weather", {"city": "Paris"}),
        ("exec", {"command": "text"}),
        ("get_weather", {"city": "text"}),
    ]
    assert len({each.id for each in calls}) == 3
    assert decide(replace(conversation, system=ONE_AT_A_TIME)).calls == calls[:1]


TIME = PromptTool("getCurrentTime")
QUESTION = "What's the weather like in San Francisco?"


@pytest.mark.parametrize(
    ("message", "tools", "call"),
    [
        (QUESTION, (EXEC, WEATHER, TIME), ("get_weather", {"city": "San Francisco"})),
        ("Is it time?", (WEATHER, TIME), ("getCurrentTime", {})),
        ("Show me my orders.", (PromptTool("listOrders"),), ("listOrders", {})),
        ('Weather: {"city": "Rome"}', (WEATHER,), ("get_weather", {"city": "Rome"})),
        ('Weather: {"town": "Rome"}', (WEATHER,), ("get_weather", {"city": "text"})),
        ('Is "sunny" weather in Rome?', (WEATHER,), ("get_weather", {"city": "sunny"})),
        # No function's name is there, or only its short words, several are, or the agent's own is.
        ("Hello", (WEATHER, TIME), None),
        ("Can you get and set them all?", (WEATHER, TIME, PromptTool("set_all")), None),
        ("What time is it, and what's the weather?", (WEATHER, TIME), None),
        ("How do I exec this?", (EXEC, WEATHER), None),
    ],
)
def test_a_function_is_called_if_the_message_has_a_long_word_of_its_name_alone(
    message: str, tools: tuple[PromptTool, ...], call: Any
) -> None:
    assert call_of(chat(message, system=OPENCLAW, tools=tools)) == call


def test_a_function_whose_output_has_come_is_not_called_again() -> None:
    turns = (ToolCall("1", "get_weather"), ToolResult("1", "sunny"))
    conversation = chat(QUESTION, *turns, system=OPENCLAW, tools=(WEATHER,))
    assert decide(conversation).text.endswith('Tool get_weather answered: "sunny"')


def test_without_a_list_of_own_tools_no_function_is_matched_by_name() -> None:
    conversation = chat("How do I exec this?", system="You run inside OpenClaw.", tools=(EXEC,))
    assert call_of(conversation) is None


def test_a_function_that_the_message_is_about_comes_before_a_structured_answer() -> None:
    conversation = chat(QUESTION, system=OPENCLAW + MAY_CALL, tools=(WEATHER, ANSWER))
    assert call_of(conversation) == ("get_weather", {"city": "San Francisco"})
    plain = chat("What is your final answer?", system=OPENCLAW + MAY_CALL, tools=(WEATHER, ANSWER))
    assert call_of(plain) == ("final_answer", {"city": "text"})


def test_a_tool_that_is_not_offered_is_not_called() -> None:
    assert call_of(chat("call me maybe", tools=(WEATHER,))) is None
    assert call_of(chat("call get_weather")) is None
    assert call_of(chat("call me, or call exec", tools=(EXEC,))) == ("exec", {"command": "text"})


def test_a_forced_choice_calls_the_named_tool_with_json_from_the_text() -> None:
    forced = chat(
        'Weather {in} {"city": "Rome"}?',
        tools=(EXEC, WEATHER),
        choice=ToolChoice("required", "get_weather"),
    )

    assert call_of(forced) == ("get_weather", {"city": "Rome"})


def test_a_forced_choice_takes_the_first_tool_that_is_the_clients() -> None:
    forced = chat("Hm", tools=(EXEC, WEATHER), choice=ToolChoice("required"), system=OPENCLAW)

    assert call_of(forced) == ("get_weather", {"city": "text"})
    assert call_of(replace(forced, system="")) == ("exec", {"command": "text"})
    assert call_of(replace(forced, tools=(EXEC,))) == ("exec", {"command": "text"})


def test_openclaws_words_for_a_forced_choice_count_as_one() -> None:
    both = (EXEC, WEATHER)
    any_of = OPENCLAW + "You must call one of the available tools before responding.\n"
    named = OPENCLAW + "You must call the exec tool before responding.\n"

    assert call_of(chat("Hm", tools=both, system=any_of)) == ("get_weather", {"city": "text"})
    assert call_of(chat("Hm", tools=both, system=named)) == ("exec", {"command": "text"})
    assert call_of(chat("Hm", tools=both, system=any_of, choice=ToolChoice("none"))) is None


def test_a_result_is_told_and_nothing_more_is_called() -> None:
    conversation = chat(
        'call get_weather {"city":"Paris"}',
        ToolCall("c1", "get_weather"),
        ToolResult("c1", "rainy"),
        tools=(WEATHER,),
        choice=ToolChoice("required"),
    )

    assert decide(conversation) == Reply(
        '[offline] Turn 1. You said: "call get_weather {"city":"Paris"}" '
        'Tool get_weather answered: "rainy"'
    )


def test_a_result_under_an_id_of_openclaws_own_is_the_latest_calls() -> None:
    conversation = chat(
        "Weather?",
        ToolCall("toolu1", "get_weather"),
        ToolResult("toolu1", "pending"),
        "Tool:b3: sunny",
    )

    assert decide(conversation).text.endswith('Tool get_weather answered: "sunny"')
    assert decide(chat("Hm", "Tool:b3: sunny")).text.endswith('Tool b3 answered: "sunny"')


def test_an_old_result_does_not_answer_a_new_message() -> None:
    conversation = chat(
        "call exec", ToolCall("c1", "exec"), ToolResult("c1", "1000"), AssistantText("…"), "Thanks"
    )

    assert decide(conversation).text == (
        '[offline] Turn 2. You said: "Thanks" Before that: "call exec"'
    )


def test_ids_depend_on_the_request_only() -> None:
    (call,) = decide(chat("call exec", tools=(EXEC,))).calls

    assert call.id == "call_" + "d" * 22 + "00"


MUST_ANSWER = "You must call the final_answer tool before responding."
MAY_CALL = "You must call one of the available tools before responding."
ANSWER = PromptTool("final_answer", CITY)
ANY_ANSWER = PromptTool(
    "final_answer", {"properties": {"json": {"type": "string"}}, "required": ["json"]}
)


@pytest.mark.parametrize("system", [MUST_ANSWER, MAY_CALL])
def test_a_structured_answer_is_the_smallest_one(system: str) -> None:
    conversation = chat("Where?", system=OPENCLAW + system, tools=(EXEC, WEATHER, ANSWER))
    assert call_of(conversation) == ("final_answer", {"city": "text"})


def test_a_structured_answer_is_what_the_person_says_if_that_fits() -> None:
    conversation = chat('Say {"city": "Rome"}.', system=MUST_ANSWER, tools=(ANSWER,))
    assert call_of(conversation) == ("final_answer", {"city": "Rome"})
    other = chat('Say {"town": "Rome"}.', system=MUST_ANSWER, tools=(ANSWER,))
    assert call_of(other) == ("final_answer", {"city": "text"})


def test_a_structured_answer_of_any_shape_quotes_the_person() -> None:
    conversation = chat("Hey!", system=MUST_ANSWER, tools=(ANY_ANSWER,))
    assert call_of(conversation) == (
        "final_answer",
        {"json": '{"answer": "[offline] Turn 1. You said: \\"Hey!\\""}'},
    )


def test_a_structured_answer_of_any_shape_is_the_object_that_the_person_says() -> None:
    conversation = chat('Say {"a": [1]} as JSON.', system=MUST_ANSWER, tools=(ANY_ANSWER,))
    assert call_of(conversation) == ("final_answer", {"json": '{"a": [1]}'})


def test_tools_that_the_person_asks_for_come_before_a_structured_answer() -> None:
    text = 'call exec {"command": "ls"}'
    begun = chat(text, system=OPENCLAW + MUST_ANSWER, tools=(EXEC, ANSWER))
    assert call_of(begun) == ("exec", {"command": "ls"})
    turns = (ToolCall("1", "exec"), ToolResult("1", "a.txt"))
    done = chat(text, *turns, system=OPENCLAW + MUST_ANSWER, tools=(EXEC, ANSWER))
    assert call_of(done) == ("final_answer", {"city": "text"})


def test_a_structured_answer_that_was_refused_is_not_tried_again() -> None:
    turns = (ToolCall("1", "final_answer"), ToolResult("1", "city: too short"))
    again = chat("Where?", *turns, system=MUST_ANSWER, tools=(ANSWER,))
    assert decide(again).text.endswith('Tool final_answer answered: "city: too short"')


def test_without_the_rule_the_answers_tool_is_a_tool_like_others() -> None:
    assert call_of(chat("Hey!", tools=(ANSWER,))) is None


def test_a_demand_in_words_stands_beside_one_of_the_providers() -> None:
    conversation = chat(
        "Hey!",
        system="You must call the b tool before responding.",
        tools=(WEATHER, PromptTool("b")),
        choice=ToolChoice("auto"),
    )
    assert call_of(conversation) == ("b", {})


def test_a_call_of_a_tool_that_openclaw_only_lists_is_made_by_any_of_its_names() -> None:
    system = OPENCLAW.replace("- tool_call\n", "- automations (core): Schedule\n")
    asked = chat('call cron {"action": "list"}', tools=(EXEC,), system=system)
    assert call_of(asked) == ("automations", {"action": "list"})
