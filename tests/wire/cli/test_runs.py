"""`diff`, `rerun` and `calls export` and `import` against a scripted server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.cli.main import run
from chowder_local.core.secrets import REDACTED

if TYPE_CHECKING:
    from pathlib import Path

    from tests.wire.cli.conftest import Output, Serve

FISH: dict[str, Any] = {"id": "0a1b2c3d-4e5f", "name": "fish", "status": "running"}
FORK: dict[str, Any] = {"id": "fork-1", "name": "fish rerun", "status": "running"}
MAIN = "agent:main:main"
AT = "2026-12-01T10:00:0{}Z"


def call(number: int, turns: list[Any], text: str = "", **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"choices": [{"message": {"content": text}}]}
    if not text:
        function = {"name": "exec", "arguments": '{"command": "count"}'}
        body = {"choices": [{"message": {"tool_calls": [{"id": "c1", "function": function}]}}]}
    asked = {"provider": "openai", "model": "gpt-4o", "is_streamed": False, "turns": turns}
    answered = {"status": 200, "text": json.dumps(body)}
    return {"id": f"ex-{number}", "asked": asked, "answered": answered, "took_s": 0.1, **more}


SAID = {"said": "How many?"}
EARLIER = [{"said": "Hi"}, {"answered": "Hello."}, {"called": "read"}, {"returned": "x"}]
CALLED = {"called": "exec", "with": {"command": "count"}}


def a_run(answer: str = "There are 3.", earlier: Any = (), **turn: Any) -> dict[str, Any]:
    calls = [
        call(1, [*earlier, SAID], system="You are an agent."),
        call(2, [*earlier, SAID, CALLED, {"returned": "3"}], answer, input_tokens=7),
    ]
    whole = {
        "id": "t-1", "response_id": "resp_1", "session_key": MAIN, "at": AT.format(5),
        "took_s": 1.0, "calls": calls,
        "request": {"model": "gpt-4o", "input": "How many?", "stream": True, "tools": []},
    }  # fmt: skip
    return {"title": f"fish, {answer}", "instance_id": FISH["id"], "turns": [whole | turn]}


def test_two_runs_are_shown_side_by_side(serve: Serve, capsys: Output, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps(a_run("There are 4.")))
    env, _ = serve({"GET /local/runs/resp_1?earlier=false&redact=false": a_run()})
    assert run(["diff", "resp_1", str(tmp_path / "b.json")], env) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["run", "fish,", "There", "are", "3.", "fish,", "There", "are", "4."]
    assert ["tokens", "?", "+", "?", "?", "+", "?"] in [each.split() for each in lines]
    assert lines[-1].split() == ["≠", "answer", *["There", "are", "3.", "There", "are", "4."]]
    assert "more steps" in "".join(lines)
    assert run(["diff", "resp_1", str(tmp_path / "b.json"), "-o", "wide"], env) == 0
    assert "gpt-4o: 7 + ? tokens, 0.10 s, by provider, ex-2" in capsys.readouterr().out
    assert run(["diff", "resp_1", str(tmp_path / "b.json"), "--json"], env) == 0
    assert json.loads(capsys.readouterr().out)["is_same"] is False
    assert run(["diff", "resp_1", "resp_1"], env) == 0
    assert "The steps are the same." in capsys.readouterr().err


def test_recordings_are_runs(serve: Serve, capsys: Output, tmp_path: Path) -> None:
    entry = {name: call(1, [SAID], "Yes.")[name] for name in ("asked", "answered")}
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "0001-openai-gpt-4o.json").write_text(json.dumps(entry))
    (tmp_path / "one.json").write_text(json.dumps({"entries": {"1": entry}}))
    env, _ = serve({})
    assert run(["diff", str(tmp_path / "folder"), str(tmp_path / "one.json")], env) == 0
    assert "The steps are the same." in capsys.readouterr().err
    for content in ("{", '{"turns": 1}', "[" * 100_000, '{"entries": 1}'):
        (tmp_path / "one.json").write_text(content)
        assert run(["diff", str(tmp_path / "folder"), str(tmp_path / "one.json")], env) == 1
        assert "no file of 'calls export'" in capsys.readouterr().err


def test_a_run_is_exported_without_secrets_for_its_user_only(
    serve: Serve, capsys: Output, tmp_path: Path
) -> None:
    whole = a_run("The password is planted word.")
    whole["turns"][0]["calls"].append(call(3, []) | {"answered": None})
    whole["turns"][0]["missing_calls"] = 2
    env, _ = serve({"GET /local/runs/resp_1?earlier=true&redact=true": whole})
    file = tmp_path / "failing.json"
    file.write_text("Others may read this one.")
    assert (
        run(
            ["calls", "export", "resp_1", str(file), "--yes"], env | {"DB_PASSWORD": "planted word"}
        )
        == 0
    )
    assert "planted" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    printed = capsys.readouterr().err.splitlines()
    left_out = file.read_text().count(REDACTED)
    assert printed[0].endswith(f": 1 turn, 3 model calls; {left_out} secrets left out.")
    assert printed[1] == "Not in memory any more: 2 model calls."
    assert printed[2] == "ex-3 has no whole answer: a replay ends there."


def created(**table: Any) -> dict[str, Any]:
    """What the server answers to commands that make an agent and talk to it."""
    path = f"/local/instances/{FORK['id']}"
    return {
        "GET /v1/instances": [FISH],
        "GET /v1/instances/fork-1/status": {"status": "running"},
        "GET /v1/instances/fork-1": FORK,
        f"PUT {path}/recording": {"entries": {}, "is_replayed": True},
        f"DELETE {path}/recording": (204, b""),
        "POST /v1/instances/fork-1/responses": {"id": "resp_2"},
        f"GET {path}/traces?limit=1": [{"id": "t-2"}],
        f"GET /local/instances/{FISH['id']}/replies": {"own": None, "server": None},
        "GET /local/runs/resp_1?earlier=false&redact=false": a_run(),
        "GET /local/runs/t-2?earlier=false&redact=false": a_run("There are 4."),
        **table,
    }


def sent(requests: list[Any], name: str) -> list[Any]:
    return [body for called, body in requests if called == name]


def test_a_run_is_replayed_on_a_new_agent(serve: Serve, capsys: Output, tmp_path: Path) -> None:
    file, whole = tmp_path / "failing.json", a_run(earlier=EARLIER)
    whole["turns"] += [a_run()["turns"][0], a_run(kind="job")["turns"][0]]
    # A replay ends at a call without an answer.
    whole["turns"][1]["calls"].append(call(3, []) | {"answered": None})
    whole["turns"][1]["request"]["session"] = "of another agent"
    file.write_text(json.dumps(whole))
    table = created() | {
        "POST /v1/instances": FORK,
        "GET /local/runs/fork-1?earlier=false&redact=false": a_run("There are 4."),
    }
    table["POST /v1/instances/fork-1/responses"] = (502, {"detail": "The model has failed."})
    env, requests = serve(table)
    assert run(["calls", "import", str(file)], env) == 0
    assert sent(requests, "POST /v1/instances") == [
        {"name": "failing", "model_provider": "anthropic"}
    ]
    first, second = sent(requests, "POST /v1/instances/fork-1/responses")
    # The agent does not know what was said before the first message of the file.
    assert [each.get("role", each["type"]) for each in first["input"]] == [
        "user", "assistant", "function_call", "function_call_output", "user",
    ]  # fmt: skip
    assert (second["input"], "stream" in second) == ("How many?", False)
    replayed, _ = sent(requests, "PUT /local/instances/fork-1/recording")
    assert (list(replayed["entries"]), replayed["in_order"]) == (["00001", "00002"], True)
    printed = capsys.readouterr()
    assert "Left out: t-1" in printed.err
    assert "chowder-local chat fork-1" in printed.err
    assert "There are 4." in printed.out
    assert run(["calls", "import", str(file), "--json"], env) == 0
    assert json.loads(capsys.readouterr().out)["diff"]["is_same"] is False


TRACES = f"GET /local/instances/{FISH['id']}/traces?limit=1000"
SNAPSHOTS = f"GET /local/instances/{FISH['id']}/snapshots"
TURN = {"id": "t-1", "at": AT.format(5), "took_s": 1.0}
BEFORE = {"id": "t-0", "at": AT.format(3), "took_s": 1.0}


def test_a_turn_is_run_again_from_a_snapshot_after_the_messages_between(
    serve: Serve, capsys: Output
) -> None:
    snapshots = [
        {"id": "s-1", "name": None, "created_at": AT.format(2)},
        # In the middle of a turn, and after the message.
        {"id": "s-2", "name": None, "created_at": "2026-12-01T10:00:03.5Z"},
        {"id": "s-3", "name": None, "created_at": AT.format(9)},
    ]
    env, requests = serve(
        created() | {
            TRACES: [TURN, BEFORE], SNAPSHOTS: snapshots,
            "POST /local/snapshots/s-1/fork": FORK,
            "GET /local/runs/t-0?earlier=false&redact=false": a_run("Before."),
        }
    )  # fmt: skip
    assert run(["rerun", "resp_1", "--from", "ex-2", "--model", "gpt-5"], env) == 0
    first, again = sent(requests, "POST /v1/instances/fork-1/responses")
    assert (first["model"], again["model"], again["tools"]) == ("gpt-4o", "gpt-5", [])
    whole, part = sent(requests, "PUT /local/instances/fork-1/recording")
    assert (len(whole["entries"]), "then_live" in whole) == (2, True)
    assert (list(part["entries"]), part["then_live"]) == (["00001"], True)
    assert "the snapshot s-1, and 1 later message replayed" in capsys.readouterr().err


def test_the_fork_has_the_reply_rules_of_the_agent_from_its_first_message_on(serve: Serve) -> None:
    script = {"replies": [{"match": {"text": "fish"}, "reply": "Three."}]}
    snapshots = [{"id": "s-1", "name": None, "created_at": AT.format(2)}]
    env, requests = serve(
        created() | {
            TRACES: [TURN, BEFORE], SNAPSHOTS: snapshots,
            "POST /local/snapshots/s-1/fork": FORK,
            "GET /local/runs/t-0?earlier=false&redact=false": a_run("Before."),
            f"GET /local/instances/{FISH['id']}/replies": {"own": {"script": script, "used": [1]}},
            "PUT /local/instances/fork-1/replies": {},
        }
    )  # fmt: skip
    assert run(["rerun", "resp_1", "--from", "2"], env) == 0
    assert sent(requests, "PUT /local/instances/fork-1/replies") == [script]
    names = [name for name, _ in requests]
    message = names.index("POST /v1/instances/fork-1/responses")
    assert names.index("PUT /local/instances/fork-1/replies") < message


def test_a_fork_that_boots_too_long_is_named_as_one_that_got_nothing(
    serve: Serve, capsys: Output
) -> None:
    fork = FORK | {"status": "provisioning"}
    env, requests = serve(
        created() | {
            TRACES: [TURN], SNAPSHOTS: [],
            f"POST /local/instances/{FISH['id']}/fork": fork,
            "GET /v1/instances/fork-1/status": fork,
        }
    )  # fmt: skip
    assert run(["rerun", "resp_1", "--from", "1", "--timeout", "0.01"], env) == 9
    refused = capsys.readouterr().err
    assert "Nothing is sent to it: run the command again, with a greater --timeout." in refused
    assert "Remove it with: chowder-local instances rm fork-1" in refused
    assert sent(requests, "POST /v1/instances/fork-1/responses") == []


def test_without_a_snapshot_the_conversation_is_set_back(serve: Serve, capsys: Output) -> None:
    turns = [
        {"position": 4, "role": "user", "text": "How many?", "response_id": None},
        {"position": 5, "role": "assistant", "text": "There are 3.", "response_id": "resp_1"},
        {"position": 6, "role": "user", "text": "And now?", "response_id": None},
    ]
    table = created() | {
        TRACES: [TURN], SNAPSHOTS: [],
        f"POST /local/instances/{FISH['id']}/fork": FORK,
        "GET /local/instances/fork-1/transcript?limit=1000": {"turns": turns, "before": None},
        "POST /local/instances/fork-1/sessions/main/rewind": (204, b""),
    }  # fmt: skip
    env, requests = serve(table)
    assert run(["rerun", "resp_1", "--from", "1", "--json"], env) == 0
    assert sent(requests, "POST /local/instances/fork-1/sessions/main/rewind") == [{"position": 4}]
    shown = json.loads(capsys.readouterr().out)
    assert (shown["instance"], shown["error"]) == (FORK, None)
    assert "files, settings and other sessions as they are now" in shown["state"]
    # A turn without an answer is found by its message.
    failed = a_run(response_id=None, status="failed", error="It failed.", request=None)
    failed["turns"][0]["calls"][0]["asked"]["turns"] = [{"said": "And now?"}]
    table["GET /local/runs/resp_1?earlier=false&redact=false"] = failed
    env, requests = serve(table)
    assert run(["rerun", "resp_1", "--from", "1"], env) == 0
    assert sent(requests, "POST /local/instances/fork-1/sessions/main/rewind") == [{"position": 6}]
    (message,) = sent(requests, "POST /v1/instances/fork-1/responses")
    assert message == {"model": "gpt-4o", "input": "And now?"}
    assert "only the text of the message is known" in capsys.readouterr().err
    table["GET /local/instances/fork-1/transcript?limit=1000"] = {"turns": [], "before": None}
    env, _ = serve(table)
    assert run(["rerun", "resp_1", "--from", "1"], env) == 1
    assert "no snapshot is of the time before it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("turn", "call_id", "code", "problem"),
    [
        ({}, "ex-9", 2, "It has: ex-1, ex-2."),
        ({}, "3", 2, "It has: ex-1, ex-2."),
        ({"kind": "job"}, "1", 1, "Only a turn that a client's message began"),
        ({"session_key": "agent:main:telegram"}, "1", 1, "Only a turn"),
        ({"calls": []}, "1", 1, "Only a turn"),
        ({"calls": [call(1, [SAID]) | {"answered": None}, call(2, [])]}, "2", 1, "Not all answers"),
        ({"missing_calls": 1}, "1", 1, "Not all of the turn's model calls are in memory"),
    ],
)
def test_what_cannot_be_run_again_is_refused_before_anything_is_made(
    serve: Serve, capsys: Output, turn: dict[str, Any], call_id: str, code: int, problem: str
) -> None:
    table = created() | {"GET /local/runs/resp_1?earlier=false&redact=false": a_run(**turn)}
    env, requests = serve(table)
    assert run(["rerun", "resp_1", "--from", call_id], env) == code
    assert problem in capsys.readouterr().err
    assert not [name for name, _ in requests if name.startswith("POST")]


def test_a_request_is_edited_before_it_is_made_anew(
    serve: Serve, capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/teal/blue/ "$1"\n')
    editor.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(editor))
    table = created() | {
        TRACES: [TURN], SNAPSHOTS: [{"id": "s-1", "name": "ready", "created_at": AT.format(4)}],
        "POST /local/snapshots/s-1/fork": FORK,
        "PUT /local/instances/fork-1/breakpoint": {},
        "GET /local/held-calls?instance_id=fork-1&wait_s=1": [{"id": "ex-7"}],
        "GET /local/model-calls/ex-7": {"request": {"colour": "teal"}},
        "POST /local/held-calls/ex-7/resume": {"id": "ex-7"},
    }  # fmt: skip
    env, requests = serve(table)
    assert run(["rerun", "resp_1", "--from", "ex-2", "--edit"], env) == 0
    (match,) = sent(requests, "PUT /local/instances/fork-1/breakpoint")
    assert match == {"match": {"call_number": 2}, "once": True}
    resumed = sent(requests, "POST /local/held-calls/ex-7/resume")
    assert resumed[0] == {"request": {"colour": "blue"}}
    assert "the snapshot ready." in capsys.readouterr().err
