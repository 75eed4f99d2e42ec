"""Golden transcripts: what does not count in them, and how a difference is shown."""

from __future__ import annotations

from typing import Any

from chowder_local.trials.golden import difference, render


def turn(role: str, text: str | None = None, **members: Any) -> dict[str, Any]:
    plain = {"name": None, "arguments": None, "is_error": None, "images": 0, "error": None}
    return {"role": role, "text": text} | plain | members


def conversation(identifier: str, time: str, folder: str, pid: int) -> list[dict[str, Any]]:
    return [
        turn("user", f"Look for resp_{identifier} of {time}, pid {pid}."),
        turn("tool_call", name="exec", arguments={"command": f"ls {folder}/x.txt", "a": 1}),
        turn("tool_result", f"/data/.openclaw/workspace/b\n\nresp_{identifier}", name="exec"),
        turn("assistant", "It is there.\nuser\n  Not a turn."),
    ]


def test_two_runs_are_the_same_text_whatever_their_ids_times_processes_and_temporary_paths() -> (
    None
):
    one = render(conversation("1c9d278b01ff", "2026-12-01T10:00:00Z", "/tmp/pytest-1/a", 102))
    assert one == render(conversation("77aa01bc99dd", "2027-01-31 23:59:59.123", "/tmp/other", 98))
    assert one == (
        "user\n  Look for <id 1> of <time>, pid <number>.\n"
        'tool_call exec\n  {\n    "a": 1,\n    "command": "ls <temporary>"\n  }\n'
        "tool_result exec\n  ~/workspace/b\n\n  <id 1>\n"
        "assistant\n  It is there.\n  user\n    Not a turn.\n"
    )


def test_other_ids_in_other_places_and_plain_words_still_count() -> None:
    same = render([turn("user", "resp_abcdef12 resp_abcdef12")])
    assert same != render([turn("user", "resp_abcdef12 resp_abcdef34")])
    assert render([turn("user", "order 7 of 12:30")]) == "user\n  order 7 of 12:30\n"


def test_a_difference_is_shown_turn_by_turn() -> None:
    before = [turn("user", "Hi"), turn("assistant", "Hello.\nHow are you?"), turn("user", "Bye")]
    now = [turn("user", "Hi"), turn("assistant", "Hello.\nWho are you?"), turn("user", "Bye")]
    shown = difference(render(before), render([*now, turn("assistant", "Good bye.")]))
    assert shown.splitlines() == [
        "turn 2 differs:", " assistant", "   Hello.", "-  How are you?", "+  Who are you?",
        "turn 4 is new:", "+assistant", "+  Good bye.",
    ]  # fmt: skip
    assert difference(render(before), render(before[:2])).startswith("turn 3 is missing:\n-user")
