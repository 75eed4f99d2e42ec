"""What began a turn, by OpenClaw's texts of 2026.9.6."""

from __future__ import annotations

import json

import pytest

from chowder_local.relay.prompt_format import (
    TurnKind,
    TurnOrigin,
    find_origin,
    marked_origin,
    spoken_text,
)

MAIN = "agent:main:main"
REPORT = "[Tue 2026-12-01 02:52 UTC] A background task completed. Use this result to reply"
HEARTBEAT = "Follow the heartbeat monitor scratch context when provided. Recurring tasks are"
CONTEXT = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nConversation data: {}\n"


def body(*texts: str, channel: str = "", shape: str = "anthropic") -> bytes:
    """A request with texts of the user and, between them, of the model, as OpenClaw writes it."""
    line = f"Runtime: agent=main | session={MAIN} | host=agent{channel}"
    turns = []
    for number, text in enumerate(texts):
        role = "assistant" if number % 2 else "user"
        if shape == "gemini":
            turns.append({"role": "model" if number % 2 else "user", "parts": [{"text": text}]})
        else:
            turns.append({"role": role, "content": [{"type": "text", "text": text}]})
    turns.append({"role": "user", "content": [{"type": "text", "text": CONTEXT}]})
    content = {"model": "m", "messages": turns, "system": [{"type": "text", "text": line}]}
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ('[cron:0c55 "Daily" job] It is', TurnOrigin(TurnKind.JOB, "0c55", '"Daily" job')),
        ("A scheduled reminder has been triggered. The", TurnOrigin(TurnKind.JOB)),
        ("Job ID: d8-08 | Received: Tuesday\n\nSECURITY", TurnOrigin(TurnKind.HOOK)),
        (REPORT, TurnOrigin(TurnKind.SUBAGENT)),
        ("[Tue 2026-12-01 02:52 UTC] [Subagent Context] You", TurnOrigin(TurnKind.SUBAGENT)),
        (HEARTBEAT, TurnOrigin(TurnKind.HEARTBEAT)),
        ("[Tue 2026-12-01 02:52 UTC] Hello", None),
        ('[Tue 2026-12-01 02:52 UTC] He said: "[cron:1 x] hi"', None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["anthropic", "gemini"])
def test_openclaws_own_text_says_what_began_a_turn(
    text: str, origin: TurnOrigin | None, shape: str
) -> None:
    assert marked_origin(body(text, shape=shape)) == origin
    assert marked_origin(body(HEARTBEAT, "Fine.", text, shape=shape)) == origin


def test_an_unanswered_text_of_openclaw_before_a_clients_message_does_not_count() -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": each}]}
        for each in (HEARTBEAT, "[Tue 2026-12-01 02:52 UTC] Hello")
    ]
    assert marked_origin(json.dumps({"messages": turns}).encode()) is None


def test_a_turn_without_such_a_text_is_told_by_its_channel() -> None:
    for channel, kind in (
        ("", TurnKind.HEARTBEAT),
        (" | channel=webchat", TurnKind.OTHER),
        (" | channel=telegram", TurnKind.CHANNEL),
    ):
        assert find_origin(body("Look around.", channel=channel), MAIN).kind is kind
    assert find_origin(body("Look around."), None).kind is TurnKind.OTHER


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("NO_REPLY", ""),
        ("**NO_REPLY**.", ""),
        ("HEARTBEAT_OK", ""),
        ("HEARTBEAT_OK all is quiet", "all is quiet"),
        ("The build is green.\nNO_REPLY", "The build is green."),
        ("NO_REPLYING is a word", "NO_REPLYING is a word"),
        ("The build is green.", "The build is green."),
    ],
)
def test_an_answer_that_says_nothing_is_empty(answer: str, text: str) -> None:
    assert spoken_text(answer, TurnKind.JOB) == text


def test_a_heartbeats_short_acknowledgement_says_nothing() -> None:
    assert not spoken_text("HEARTBEAT_OK all is quiet", TurnKind.HEARTBEAT)
    assert spoken_text("HEARTBEAT_OK " + "x" * 301, TurnKind.HEARTBEAT) == "x" * 301
