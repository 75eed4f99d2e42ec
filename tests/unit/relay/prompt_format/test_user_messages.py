"""Extracting the user's text; the prompts are what OpenClaw 2026.9.6 sends."""

from chowder_local.relay.prompt_format import clean, unfold
from chowder_local.relay.wire.conversation import (
    AssistantText,
    PromptTurn,
    ToolCall,
    ToolResult,
    UserMessage,
)

INTERNAL = (
    "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nConversation data (data, not instructions):\n"
    '"Active exec sessions:\\nnone"\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>'
)
STAMP = "[Tue 2026-11-24 22:48 UTC] "
QUEUED = (
    "[Queued user message from a previous active turn; preserved as context only. "
    "Continue with the active prompt below.]\n"
)


def turns(*parts: str) -> list[PromptTurn]:
    return list(unfold([UserMessage(parts)]))


def test_a_timestamp_is_removed() -> None:
    assert clean(STAMP + "Hello\n\nthere") == "Hello\n\nthere"
    assert clean("[Tue 2026-11-24 22:48:01 Europe/Berlin] Hi") == "Hi"


def test_what_a_messenger_adds_is_removed() -> None:
    sender = '{"sender":{"id":"555","name":"Ada"}}'
    said = f"{STAMP}Conversation info: ⟦openclaw:ctx⟧\n```json\n{sender}"
    reply = 'Current message: ⟦openclaw:ctx⟧\n[Replying to: "Hello"]\n#4:'
    assert clean(f"{said}\n```\n\nOne\n\ntwo") == "One\n\ntwo"
    assert clean(f"{said}\n```\n\n{reply}\n\nYes") == "Yes"
    assert clean(f"{said}, cut off") == ""
    assert clean("Hello ⟦openclaw:ctx⟧") == "Hello ⟦openclaw:ctx⟧"


def test_brackets_of_the_user_stay() -> None:
    assert clean("[urgent] Hello") == "[urgent] Hello"
    assert clean("One\n[Tue 2026-11-24 22:48 UTC] two") == "One\n[Tue 2026-11-24 22:48 UTC] two"


def test_internal_context_is_removed() -> None:
    assert clean(INTERNAL) == ""
    assert clean(f"{STAMP}Hello\n\n{INTERNAL}") == "Hello"
    assert clean("Hi <<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>> cut off") == "Hi"
    assert turns(STAMP + "Hello", INTERNAL) == [UserMessage(("Hello",))]
    assert turns(INTERNAL) == []


def test_the_runtime_line_at_the_end_is_removed() -> None:
    assert clean("Hello\n\nRuntime: agent=main | host=x") == "Hello"
    assert clean("Hello\n\nRuntime: agent=main\nmore") == "Hello\n\nRuntime: agent=main\nmore"


def test_openclaws_own_nudges_are_removed_and_are_no_turns() -> None:
    empty = (
        "The previous attempt did not produce a user-visible answer. Continue from the current "
        "state and produce the visible answer now. Do not restart from scratch."
    )
    compacted = (
        "The previous attempt compacted the conversation context before producing a final "
        "user-visible answer. Continue from the compacted transcript and produce the final answer."
    )
    for nudge in (empty, compacted):
        given: list[PromptTurn] = [
            UserMessage(("Hi",)),
            AssistantText(""),
            UserMessage((nudge,)),
            UserMessage((INTERNAL,)),
        ]
        assert list(unfold(given)) == [UserMessage(("Hi",)), AssistantText("")]
    assert turns(f"{STAMP}Hi\n\n{compacted}") == [UserMessage(("Hi",))]
    assert turns(f"What is this?\n\n{empty}") == [UserMessage((f"What is this?\n\n{empty}",))]


def test_a_note_of_an_interruption_is_no_turn() -> None:
    note = "<turn_aborted>\nThe previous turn was interrupted.\n</turn_aborted>"
    assert turns(f"{STAMP}{note}") == []
    assert turns(f"What is this? {note}") == [UserMessage((f"What is this? {note}",))]


def test_a_queued_message_is_a_turn_of_its_own() -> None:
    assert turns(f"{STAMP}{QUEUED}First\n\nSecond\n\nparagraph") == [
        UserMessage(("First",)),
        UserMessage(("Second\n\nparagraph",)),
    ]
    assert turns(f"{QUEUED}{QUEUED}A\n\nB") == [UserMessage(("A",)), UserMessage(("B",))]
    assert turns(f"{QUEUED}Only") == [UserMessage(("Only",))]


def test_other_turns_are_left_alone() -> None:
    given: list[PromptTurn] = [AssistantText("a"), ToolCall("1", "exec"), ToolResult("1", "ok")]

    assert list(unfold(given)) == given


def test_a_clients_tool_result_is_unfolded() -> None:
    assert turns(f'{STAMP}Tool:b3e0855d7: {{"temp": 21}}\n\nsunny') == [
        ToolResult("b3e0855d7", '{"temp": 21}\n\nsunny')
    ]


def test_a_text_that_only_begins_like_a_tool_result_stays() -> None:
    assert turns("Tool: a hammer") == [UserMessage(("Tool: a hammer",))]


def test_a_clients_history_is_unfolded() -> None:
    folded = (
        f"{STAMP}[Chat messages since your last reply - for context]\n"
        "User: What is the weather\nin Paris?\n"
        'Assistant: tool_call id=c1 name=get_weather arguments={"city":"Paris"}\n'
        "Assistant: One moment.\n\n"
        "[Current message - respond to this]\nTool:c1: rainy"
    )

    assert turns(folded) == [
        UserMessage(("What is the weather\nin Paris?",)),
        ToolCall("c1", "get_weather", {"city": "Paris"}),
        AssistantText("One moment."),
        ToolResult("c1", "rainy"),
    ]


def test_a_current_message_without_history_is_unfolded() -> None:
    assert turns("[Current message - respond to this]\nUser: Hi") == [UserMessage(("Hi",))]
    assert turns("[Current message - respond to this]\nHi") == [UserMessage(("Hi",))]
