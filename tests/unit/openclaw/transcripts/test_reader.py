"""Transcripts from OpenClaw's messages; end-to-end tests read real databases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.agents import ConversationsAtRest, GatewayUnavailable
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.openclaw.sandbox_exec import Control
from chowder_local.openclaw.shortcuts import TRANSCRIPTS
from chowder_local.openclaw.transcripts import reader
from chowder_local.openclaw.transcripts.chat_history import ChatHistory
from chowder_local.openclaw.transcripts.reader import LatestMessage, Transcript, Transcripts
from chowder_local.openclaw.transcripts.turns import TranscriptTurn, TurnUsage
from chowder_local.relay.prompt_format import FailureMarkers
from tests.scripted.programs import ScriptedPrograms, done, undone
from tests.scripted.shortcuts import all_but, all_fit

if TYPE_CHECKING:
    from chowder_local.openclaw.shortcuts import MayTakeIn

SANDBOX_ID = SandboxId("chowder-1")
AT_MS = 1_795_643_430_126
AT = datetime(2026, 11, 25, 21, 50, 30, 126_000, UTC)


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def message(position: int, role: str, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"position": position, "role": role, "at": AT_MS, "parts": list(parts), **more}


def transcripts_in(
    inside: ScriptedPrograms, beside: ScriptedPrograms | None = None, allows: MayTakeIn = all_fit
) -> Transcripts:
    history = ChatHistory(Control(inside, lambda _: "token"))
    return Transcripts(inside, beside or ScriptedPrograms(), "/home", history, allows)


async def read(*messages: dict[str, Any], has_more: bool = False) -> Transcript:
    inside = ScriptedPrograms()
    inside.answers["read"] = done(is_known=True, messages=list(messages), has_more=has_more)
    page = transcripts_in(inside)
    return await page.transcript(SANDBOX_ID, "agent:main:main", is_running=True, limit=9)


async def roles_and_texts(*messages: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(turn.role, turn.text) for turn in (await read(*messages)).turns]


async def test_question_and_answer_are_two_turns() -> None:
    page = await read(
        message(0, "user", text("Hello")),
        message(
            1, "assistant", text("Hi "), text("there"),
            model="gpt-4o", run_id="resp_1",
            usage={"input": 10, "output": 2, "cache_read": 5, "cache_write": 1},
        ),
    )  # fmt: skip
    assert page.turns == [
        TranscriptTurn(0, "user", AT, "Hello"),
        TranscriptTurn(
            1, "assistant", AT, "Hi there", model="gpt-4o", response_id="resp_1",
            usage=TurnUsage(16, 5, 1, 2),
        ),
    ]  # fmt: skip
    assert page.before is None


@pytest.mark.parametrize(
    "words", ["  kept \n as it is  ", "", "[Wed 2026-11-25 21:50 UTC] a line of a log", "User: x"]
)
async def test_a_users_text_stays_unchanged(words: str) -> None:
    assert await roles_and_texts(message(0, "user", text(words))) == [("user", words)]


async def test_a_history_that_was_sent_along_is_unfolded() -> None:
    folded = (
        "[Chat messages since your last reply - for context]\nUser: first\nAssistant: answer\n\n"
        "[Current message - respond to this]\nUser: look"
    )
    page = await read(message(0, "user", text(folded), {"type": "image"}))
    assert [(turn.role, turn.text, turn.images) for turn in page.turns] == [
        ("user", "first", 0),
        ("assistant", "answer", 0),
        ("user", "look", 1),
    ]


async def test_a_tool_call_in_a_folded_history_is_a_turn() -> None:
    folded = (
        "[Chat messages since your last reply - for context]\nUser: go\n"
        'Assistant: tool_call id=c1 name=client_read arguments={"a": 1}\nTool:c1: 2\n\n'
        "[Current message - respond to this]\nUser: and?"
    )
    turns = (await read(message(0, "user", text(folded)))).turns
    assert [(turn.role, turn.name, turn.call_id, turn.arguments) for turn in turns] == [
        ("user", None, None, None),
        ("tool_call", "read", "c1", {"a": 1}),
        ("tool_result", "read", "c1", None),
        ("user", None, None, None),
    ]


async def test_an_agents_call_and_its_result_have_one_id() -> None:
    call = {"type": "call", "id": "call_1|fc_1", "name": "exec", "arguments": {"command": "ls"}}
    page = await read(
        message(1, "assistant", text("I look."), call, model="gpt-4o", usage={"input": 3}),
        message(2, "toolResult", text("a.txt"), call_id="call_1|fc_1", name="exec", is_error=True),
    )
    spoken, called, result = page.turns
    assert (spoken.text, spoken.usage) == ("I look.", TurnUsage(3, 0, 0, 0))
    # Only one turn has the usage of the model call.
    assert (called.role, called.call_id, called.usage) == ("tool_call", "call_1", None)
    assert called.arguments == {"command": "ls"}
    assert (result.role, result.call_id, result.text, result.is_error) == (
        "tool_result", "call_1", "a.txt", True,
    )  # fmt: skip


async def test_a_clients_function_output_is_the_calls_result() -> None:
    pending = text('{"message": "Tool execution delegated to client"}')
    page = await read(
        message(
            1, "assistant",
            {"type": "call", "id": "toolu_1", "name": "weather", "arguments": {"city": "Oslo"}},
            {"type": "call", "id": "toolu_2", "name": "time", "arguments": {}},
        ),
        message(2, "toolResult", pending, call_id="toolu_1", name="weather", is_pending=True),
        message(3, "toolResult", pending, call_id="toolu_2", name="time", is_pending=True),
        message(4, "user", text("Tool:5b95: rain\nTool:77aa: noon")),
    )  # fmt: skip
    results = [turn for turn in page.turns if turn.role == "tool_result"]
    assert [(turn.call_id, turn.name, turn.text) for turn in results] == [
        ("toolu_1", "weather", "rain"),
        ("toolu_2", "time", "noon"),
    ]


async def test_a_structured_output_is_what_the_client_got() -> None:
    call = {"type": "call", "id": "toolu_1", "name": "final_answer", "arguments": {"a": "é"}}
    pending = text("Tool execution delegated to client")
    assert await roles_and_texts(
        message(1, "assistant", call),
        message(2, "toolResult", pending, call_id="toolu_1", is_pending=True),
    ) == [("assistant", '{"a":"é"}')]


async def test_a_failed_answer_has_its_reason() -> None:
    (turn,) = (await read(message(1, "assistant", error="400: no"))).turns
    assert (turn.role, turn.text, turn.error) == ("assistant", "", "400: no")
    failure = ProviderFailed("openai", 429, "Slow down.")
    marker = FailureMarkers().remember(failure, SANDBOX_ID)
    (turn,) = (await read(message(1, "assistant", error=f"400 {marker}"))).turns
    assert turn.error == str(failure)
    (turn,) = (await read(message(1, "assistant", error="terminated"))).turns
    assert turn.error == "The model provider broke off its answer."


async def test_cut_texts_are_marked() -> None:
    call = {"type": "call", "id": "c", "name": "write", "arguments": None, "is_cut": True}
    page = await read(
        message(0, "user", text("x", is_cut=True)),
        message(1, "assistant", text("short"), call),
    )
    assert [turn.is_cut for turn in page.turns] == [True, False, True]


async def test_messages_of_other_roles_are_omitted() -> None:
    assert await roles_and_texts(
        message(0, "system", text("x")), message(1, "user", {"type": "other"})
    ) == [("user", "")]


async def test_the_next_older_page_begins_before_the_first_message() -> None:
    page = await read(message(5, "user", text("x")), message(6, "user", text("y")), has_more=True)
    assert page.before == 5


@pytest.mark.parametrize("at", [None, -1, 1e300])
async def test_an_impossible_time_is_none(at: float | None) -> None:
    (turn,) = (await read(message(0, "user", text("x")) | {"at": at})).turns
    assert turn.at is None


async def test_a_stopped_sandbox_is_read_on_its_volume() -> None:
    inside, beside = ScriptedPrograms(), ScriptedPrograms()
    beside.answers["list"] = done(
        sessions=[{"key": "agent:main:x", "created_at": AT_MS, "messages": 3, "channel": "irc"}]
    )
    page = transcripts_in(inside, beside)
    (session,) = await page.sessions(SANDBOX_ID, is_running=False)
    assert (session.key, session.created_at, session.last_used_at, session.messages) == (
        "agent:main:x", AT, None, 3,
    )  # fmt: skip
    assert beside.calls[0][1]["path"] == f"/home/{reader.DATABASE}"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (undone("database disk image is malformed"), "disk image is malformed"),
        ({"ok": False}, "could not be read"),
        (done(), "unknown form"),
        (done(is_known=True, messages=[{"position": "first"}], has_more=False), "unknown form"),
        (done(is_known=True, messages=[message(0, 5)], has_more=False), "unknown form"),  # type: ignore[arg-type]  # that is the point
    ],
)
async def test_an_unreadable_database_makes_the_gateway_unavailable(
    answer: dict[str, Any], words: str
) -> None:
    inside = ScriptedPrograms(answers={"read": answer})
    page = transcripts_in(inside)
    with pytest.raises(GatewayUnavailable, match=words):
        await page.transcript(SANDBOX_ID, "agent:main:main", is_running=True, limit=9)


async def test_a_program_that_takes_too_long_fails() -> None:
    inside = ScriptedPrograms(failing=TimeoutError())
    page = transcripts_in(inside)
    with pytest.raises(GatewayUnavailable, match="within 30 s"):
        await page.sessions(SANDBOX_ID, is_running=True)


async def test_a_cut_text_has_its_whole_length() -> None:
    page = await read(message(0, "assistant", text("The ti", is_cut=True, length=900), text("de")))
    assert [(turn.text, turn.is_cut, turn.characters) for turn in page.turns] == [
        ("The tide", True, 900)
    ]
    page = await read(message(0, "assistant", text("The tide", length=8)))
    assert page.turns[0].characters is None


async def test_the_latest_message_is_read_without_the_answers_text() -> None:
    inside = ScriptedPrograms()
    # The program's part for a text that is cut to 0 characters.
    answer = message(1, "assistant", text("", is_cut=True, length=900_000))
    asked = message(0, "user", text("Go on."), id="e1")
    inside.answers["read"] = done(is_known=True, messages=[asked, answer], has_more=False)
    page = transcripts_in(inside)
    latest = await page.latest_message(SANDBOX_ID, "agent:main:main")
    assert latest == LatestMessage("e1", "Go on.", is_unanswered=False)
    assert inside.calls[0][1]["textMax"] == 0


def row(seq: int, role: str, **more: Any) -> dict[str, Any]:
    """A message as OpenClaw's `chat.history` returns it."""
    return {"role": role, "timestamp": AT_MS, "__openclaw": {"seq": seq, "id": f"e{seq}"}, **more}


CALL = {"type": "toolCall", "id": "call_1|fc_1", "name": "exec", "arguments": {"command": "ls"}}
HISTORY = [
    row(3, "user", content="look"),
    row(4, "assistant", content=[text("I look."), CALL], model="m", usage={"input": 3}),
    row(5, "toolResult", content=[text("a.txt")], toolCallId="call_1|fc_1", toolName="exec"),
    row(6, "assistant", content=[], errorMessage="400: no"),
]


async def test_without_its_tables_a_running_agents_conversations_are_asked_of_openclaw() -> None:
    inside = ScriptedPrograms()
    inside.answers["chat.history"] = done(messages=HISTORY, totalMessages=8, hasMore=True)
    inside.answers["sessions.list"] = done(
        sessions=[{"key": "agent:main:main", "updatedAt": AT_MS, "channel": "irc"}]
    )
    transcripts = transcripts_in(inside, allows=all_but(TRANSCRIPTS))
    key = "agent:main:main"
    (session,), page = await transcripts.sessions_and_transcript(
        SANDBOX_ID, key, is_running=True, limit=4, before=6
    )
    assert (session.key, session.last_used_at, session.channel) == (key, AT, "irc")
    assert [(turn.role, turn.text, turn.call_id) for turn in page.turns] == [
        ("user", "look", None),
        ("assistant", "I look.", None),
        ("tool_call", None, "call_1"),
        ("tool_result", "a.txt", "call_1"),
        ("assistant", "", None),
    ]
    assert (page.is_known, page.before, page.turns[-1].error) == (True, 2, "400: no")
    # Positions 6 and 7 are the latest two of eight.
    assert inside.called("chat.history")[-1] == {"sessionKey": key, "limit": 4, "offset": 2}


async def test_openclaw_does_not_know_a_conversation_without_messages() -> None:
    inside = ScriptedPrograms()
    inside.answers["chat.history"] = done(messages=[], totalMessages=0, hasMore=False)
    transcripts = transcripts_in(inside, allows=all_but(TRANSCRIPTS))
    page = await transcripts.transcript(SANDBOX_ID, "agent:main:x", is_running=True, limit=9)
    assert (page.is_known, page.turns, page.before) == (False, [], None)


async def test_without_its_tables_conversations_at_rest_cannot_be_read() -> None:
    transcripts = transcripts_in(ScriptedPrograms(), allows=all_but(TRANSCRIPTS))
    with pytest.raises(ConversationsAtRest):
        await transcripts.sessions(SANDBOX_ID, is_running=False)
