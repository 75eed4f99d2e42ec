"""`sessions` and `usage` against a scripted server."""

import json
from collections.abc import Callable
from typing import Any

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output

Serve = Callable[..., tuple[dict[str, str], list[Any]]]

LIST = "GET /v1/instances"
ONE = {"id": "0a1b2c3d-0000-0000-0000-000000000000", "name": "fish", "status": "running"}
LOCAL = f"GET /local/instances/{ONE['id']}"
MAIN_KEY = "agent:main:main"


def session(name: str | None, key: str = "agent:main:s-1", **more: Any) -> dict[str, Any]:
    known = {"name": name, "key": key, "is_main": key == MAIN_KEY, "messages": 2}
    return known | {"created_at": "2026-05-04T03:02:01Z", "last_used_at": None} | more


def turn(role: str, text: str | None = None, **more: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("name", "call_id", "arguments", "model", "error", "is_error"))
    known = {"role": role, "text": text, "at": "2026-05-04T03:02:01Z", "images": 0, "is_cut": False}
    return empty | known | more


def test_sessions_are_listed_by_name_or_key(serve: Serve, capsys: Output) -> None:
    found = [session(None, MAIN_KEY), session("a/b é\x1b[31m"), session(None, "agent:main:irc:5")]
    env, _ = serve({LIST: [ONE], f"{LOCAL}/sessions": {"sessions": found}})
    assert run(["sessions", "ls", "fish"], env) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["NAME", "MESSAGES", "CREATED", "LAST", "USED"]
    assert [line.split("  ")[0] for line in lines] == [
        "(main)",
        "a/b é\\u001b[31m",
        "agent:main:irc:5",
    ]
    assert lines[0].split()[1:] == ["2", "2026-05-04", "03:02", "-"]
    assert run(["sessions", "ls", "fish", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_a_transcript_is_printed_for_people(serve: Serve, capsys: Output) -> None:
    turns = [
        turn("user", "Look!\nThere", images=1),
        turn("tool_call", name="exec", arguments={"command": "ls"}),
        turn("tool_call", name="write", is_cut=True),
        turn("tool_result", "a\x1b]0;owned\x07b", name="exec", is_error=False),
        turn("tool_result", "", name=None, is_error=True),
        turn("assistant", "Done.", model="gpt-4o"),
        turn("assistant", "", model="gpt-4o", error="400: no"),
    ]
    env, _ = serve(
        {LIST: [ONE], f"{LOCAL}/transcript?limit=100": {"turns": turns, "before": 7}},
    )
    assert run(["sessions", "show", "fish"], env) == 0
    said = capsys.readouterr()
    at = "2026-05-04 03:02:01"
    assert said.out.splitlines() == [
        f"{at}  user [1 image]",
        "  Look!",
        "  There",
        f'{at}  calls exec {{"command": "ls"}}',
        f"{at}  calls write …",
        f"{at}  exec answers",
        "  a\\u001b]0;owned\\u0007b",
        f"{at}  tool fails",
        f"{at}  assistant (gpt-4o)",
        "  Done.",
        f"{at}  assistant (gpt-4o) failed: 400: no",
    ]
    assert said.err == "Older messages: --before 7\n"


def test_a_session_is_chosen_by_name_or_key(serve: Serve, capsys: Output) -> None:
    empty: dict[str, Any] = {"turns": [], "before": None}
    env, _ = serve(
        {
            LIST: [ONE],
            f"{LOCAL}/sessions/a%2Fb/transcript?limit=5&before=9": empty,
            f"{LOCAL}/transcript?limit=100&key=agent%3Amain%3Airc": empty,
        }
    )
    show = ["sessions", "show", "fish"]
    assert run([*show, "a/b", "--limit", "5", "--before", "9", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == empty
    option = ["--session", "a/b", "--limit", "5", "--before", "9", "--json"]
    assert run([*show, *option], env) == 0
    assert json.loads(capsys.readouterr().out) == empty
    assert run([*show, "--key", "agent:main:irc"], env) == 0
    assert capsys.readouterr().err == "The session has no messages.\n"
    assert run([*show, "a/b", "--key", "agent:main:irc"], env) == 2
    assert run([*show, "a/b", "--session", "c"], env) == 2


def test_usage_is_a_table_with_a_sum(serve: Serve, capsys: Output) -> None:
    figures = {"calls": 2, "input_tokens": 1000, "cached_tokens": 400, "output_tokens": 100}
    row = figures | {"instance_id": ONE["id"], "day": "2026-05-04", "model": "gpt-4o"}
    rows = [
        row | {"session": "a b", "session_key": "agent:main:s-1", "cost_usd": 0.003},
        row | {"session": None, "session_key": MAIN_KEY, "cost_usd": 0},
        row | {"session": None, "session_key": None, "model": None, "cost_usd": None},
    ]
    report = {
        "totals": figures | {"cost_usd": None},
        "rows": rows,
        "has_more": True,
        "prices": {"as_of": "2026-05-04"},
    }
    env, _ = serve(
        {
            LIST: [ONE],
            f"{LOCAL}/usage?limit=3": report,
            "GET /local/usage?limit=1000": report | {"has_more": False},
        }
    )
    assert run(["usage", "fish", "--limit", "3"], env) == 0
    said = capsys.readouterr()
    cells = [line.split() for line in said.out.splitlines()]
    assert cells[1:] == [
        ["2026-05-04", "0a1b2c3d", "a", "b", "gpt-4o", "2", "1000", "400", "100", "$0.0030"],
        ["2026-05-04", "0a1b2c3d", "(main)", "gpt-4o", "2", "1000", "400", "100", "$0.0000"],
        ["2026-05-04", "0a1b2c3d", "-", "-", "2", "1000", "400", "100", "?"],
        ["…"],
        ["all", "2", "1000", "400", "100", "?"],
    ]
    assert "as of 2026-05-04" in said.err
    assert run(["usage", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out)["has_more"] is False
