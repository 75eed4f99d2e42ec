"""`replies` and `calls` against a scripted server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.cli.main import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.wire.cli.conftest import Output, Serve


FISH: dict[str, Any] = {"id": "0a1b2c3d-4e5f", "name": "fish"}
RULES = [{"name": "greeting", "match": {"text": "hi"}, "reply": "Hello"}, {"reply": "Eh?"}]
MISSED = {"turn": 2, "text": "bye", "model": "gpt-4o"}
SHOWN = {"script": {"replies": RULES}, "used": [3, 0], "unmatched": [MISSED]}
CALL: dict[str, Any] = {
    "id": "ex-1", "at": "2026-11-24T10:11:12.5Z", "session": None,
    "session_key": "agent:main:main", "source": "offline", "outcome": None, "took_s": None,
    "request_bytes": 70, "answer_bytes": 7,
}  # fmt: skip


def test_a_script_of_a_file_is_put_in_force(tmp_path: Path, serve: Serve, capsys: Output) -> None:
    file = tmp_path / "replies.yaml"
    file.write_text("- match: {text: hi}\n  reply: Hello\n")
    env, requests = serve({"PUT /local/replies": {"own": SHOWN, "server": None}})
    assert run(["replies", "set", str(file)], env) == 0
    rule = {"match": {"text": "hi"}, "reply": "Hello"}
    assert requests == [("PUT /local/replies", {"replies": [rule]})]
    assert "In force: 2 rules." in capsys.readouterr().err


def test_a_script_may_be_for_one_agent(tmp_path: Path, serve: Serve) -> None:
    file = tmp_path / "replies.json"
    file.write_text('{"unmatched": "fail"}')
    path = f"/local/instances/{FISH['id']}/replies"
    shown = {"own": SHOWN, "server": None}
    env, requests = serve(
        {"GET /v1/instances": [FISH], f"PUT {path}": shown, f"DELETE {path}": (204, b"")}
    )
    assert run(["replies", "set", "-i", "fish", str(file)], env) == 0
    assert run(["replies", "clear", "-i", "fish"], env) == 0
    assert [call for call, _ in requests if path in call] == [f"PUT {path}", f"DELETE {path}"]


def test_an_invalid_script_is_refused_without_a_call(
    tmp_path: Path, serve: Serve, capsys: Output
) -> None:
    file = tmp_path / "replies.yaml"
    file.write_text("- reply: {tekst: Hello}\n")
    env, requests = serve({})
    assert run(["replies", "set", str(file)], env) == 2
    assert "replies.0.reply.tekst" in capsys.readouterr().err
    assert requests == []


def test_scripts_are_shown_with_uses_and_unmatched_messages(serve: Serve, capsys: Output) -> None:
    env, _ = serve({"GET /local/replies": {"own": SHOWN, "server": {**SHOWN, "unmatched": []}}})
    assert run(["replies", "show"], env) == 0
    printed, notes = capsys.readouterr()
    rows = [line.split() for line in printed.splitlines()]
    assert ["own", "greeting", "3", "text", "'hi'"] in rows
    assert ["the", "server's", "replies[1]", "0", "anything"] in rows
    assert notes == "No rule matched: turn 2, 'bye', model gpt-4o\n"


def test_without_a_script_show_says_how_to_set_one(serve: Serve, capsys: Output) -> None:
    nothing = {"own": None, "server": None}
    env, _ = serve({"GET /local/replies": nothing})
    assert run(["replies", "show"], env) == 0
    assert "replies set FILE" in capsys.readouterr().err
    assert run(["replies", "show", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == nothing


def test_model_calls_are_a_table(serve: Serve, capsys: Output) -> None:
    done = {**CALL, "session": "alpha", "session_key": "agent:main:s-1", "took_s": 1.234}
    done["outcome"] = "offline"
    own = {**done, "session": None, "session_key": None}
    path = f"GET /local/instances/{FISH['id']}/model-calls?limit=20"
    env, _ = serve({"GET /v1/instances": [FISH], path: [CALL, done, own]})
    assert run(["calls", "fish"], env) == 0
    _, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["ex-1", "10:11:12", "(main)", "offline", "…", "…", "70", "B", "7", "B"],
        ["ex-1", "10:11:12", "alpha", "offline", "answered", "1.23", "s", "70", "B", "7", "B"],
        ["ex-1", "10:11:12", "-", "offline", "answered", "1.23", "s", "70", "B", "7", "B"],
    ]
    assert run(["exchanges", "fish", "--json"], env) == 0
    printed, warning = capsys.readouterr()
    assert json.loads(printed) == [CALL, done, own]
    assert "'exchanges' is 'calls' now" in warning


def test_a_model_call_is_shown_with_request_and_answer(serve: Serve, capsys: Output) -> None:
    chunks = [{"after_s": 0.5, "text": "data: {}\n\n"}]
    found = {**CALL, "request": {"model": "gpt-4o"}, "chunks": chunks}
    env, _ = serve({"GET /local/model-calls/ex-1": found})
    assert run(["calls", "fish", "ex-1"], env) == 0
    printed, notes = capsys.readouterr()
    assert printed == '{\n  "model": "gpt-4o"\n}\ndata: {}\n'
    assert notes == "# 0.500 s\n"
    assert run(["calls", "fish", "ex-1", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == found
