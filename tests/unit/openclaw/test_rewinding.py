"""Only a message without an answer is taken back."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.sandboxes import EngineUnavailable, NodeUnreachable
from chowder_local.openclaw import rewinding
from chowder_local.openclaw.rewinding import Rewinding
from chowder_local.openclaw.sandbox_exec import Control
from chowder_local.openclaw.transcripts.chat_history import ChatHistory
from chowder_local.openclaw.transcripts.reader import Transcripts
from tests.scripted.programs import ScriptedPrograms, done, undone
from tests.scripted.shortcuts import all_fit

SANDBOX = SandboxId("chowder-1")


def message(role: str, text: str = "", **more: Any) -> dict[str, Any]:
    parts = [{"type": "text", "text": text}] if text else []
    return {"position": 0, "role": role, "parts": parts, "id": f"entry-{text}", **more}


FAILED = message("assistant", error="400 no")
REFUSED = {"ok": False, "error": {"code": "UNAVAILABLE", "message": "Rewind is unavailable "
           "while the agent is working."}}  # fmt: skip


async def taken_back(
    words: str, *messages: dict[str, Any], rewound: Any, failing: Exception | None = None
) -> tuple[bool, Any]:
    page = done(is_known=True, messages=list(messages), has_more=False)
    programs = ScriptedPrograms({"read": page, "sessions.rewind": rewound}, failing=failing)
    control = Control(programs, lambda _: "token")
    transcripts = Transcripts(programs, programs, "/data", ChatHistory(control), all_fit)
    is_done = await Rewinding(transcripts, control).take_back(SANDBOX, "agent:main:main", words)
    return is_done, programs.called("sessions.rewind")


async def test_a_message_whose_model_call_failed_is_taken_back() -> None:
    sent = message("user", "[Current message] User: Hello  there")
    is_done, calls = await taken_back("Hello there", sent, FAILED, rewound=done())
    assert is_done
    assert calls == [{"sessionKey": "agent:main:main", "entryId": sent["id"]}]


@pytest.mark.parametrize(
    "after",
    [
        [message("assistant", "Hi!")],
        [message("user", "Hello, it is somebody else")],
        [
            message("assistant", parts=[{"type": "call", "id": "c", "name": "exec"}]),
            message("toolResult", "done", call_id="c", name="exec"),
            FAILED,
        ],
    ],
)
async def test_a_message_with_an_answer_or_a_tool_call_stays(after: list[dict[str, Any]]) -> None:
    result = await taken_back("Hello", message("user", "Hello"), *after, rewound=done())
    assert result == (False, [])


async def test_an_agent_that_still_works_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewinding, "INTERVAL_S", 0.0)
    is_done, calls = await taken_back("Hi", message("user", "Hi"), rewound=[REFUSED, done()])
    assert is_done
    assert len(calls) == 2


async def test_a_message_stays_if_the_rewind_fails() -> None:
    is_done, _ = await taken_back("Hi", message("user", "Hi"), rewound=undone("session not found"))
    assert not is_done


@pytest.mark.parametrize(
    ("failing", "count"), [(NodeUnreachable("host-1"), 0), (EngineUnavailable("It hangs."), 1)]
)
async def test_a_message_stays_on_a_machine_that_is_away_without_a_second_warning(
    failing: EngineUnavailable, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    is_done, _ = await taken_back("Hi", message("user", "Hi"), rewound=done(), failing=failing)
    assert not is_done
    assert len(caplog.records) == count
