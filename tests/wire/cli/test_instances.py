"""`instances` and `logs` against a scripted server."""

import io
import json
import sys
from typing import Any

import pytest

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

ONE: dict[str, Any] = {
    "id": "0a1b2c3d-4e5f",
    "name": "fish",
    "gateway_url": "http://127.0.0.1:32768",
    "status": "running",
    "model_provider": "anthropic",
    "created_at": "2026-11-24T10:11:12.5Z",
    "error_message": None,
}
FAILED = {**ONE, "id": "ffff", "name": "crab", "status": "error", "error_message": "no key"}
LIST = "GET /v1/instances"
PATH = "/v1/instances/0a1b2c3d-4e5f"


def test_the_list_is_a_table_and_says_what_failed(serve: Serve, capsys: Output) -> None:
    env, _ = serve({LIST: [ONE, FAILED]})
    assert run(["instances", "ls"], env) == 0
    table, notes = capsys.readouterr()
    assert table.splitlines()[1].split() == [
        "0a1b2c3d", "fish", "running", "anthropic", "2026-11-24", "10:11",
    ]  # fmt: skip
    assert notes == "crab: no key\n"


def test_a_wide_list_has_whole_ids_and_addresses(serve: Serve, capsys: Output) -> None:
    more = {"updated_at": "2026-11-25T01:02:03Z", "openclaw_version": "2026.9.5"}
    cells = [ONE["id"], "2026.9.5", ONE["gateway_url"], "2026-11-25T01:02:03Z"]
    env, _ = serve({LIST: [ONE | more], "GET /local/health": {"nodes": []}})
    assert run(["instances", "ls", "--output", "wide"], env) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-4:] == cells
    several = {
        "GET /local/health": {"nodes": [{"name": "host-1"}]},
        "GET /local/instances/0a1b2c3d-4e5f": {"node": "host-1"},
    }
    env, _ = serve({LIST: [ONE | more], **several})
    assert run(["instances", "ls", "--output", "wide"], env) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-5:] == [*cells, "host-1"]


def test_configure_changes_what_is_given(serve: Serve, capsys: Output) -> None:
    overrides = {"b": "x", "a.b": 1}
    env, requests = serve({LIST: [ONE], f"PATCH {PATH}": ONE | {"openclaw_config": overrides}})
    assert run(["instances", "configure", "fish", "a.b=1", "c=null", "--name", "pike"], env) == 0
    assert requests[-1][1] == {"openclaw_config": {"a.b": 1, "c": None}, "name": "pike"}
    assert capsys.readouterr().out == 'a.b=1\nb="x"\n'


def test_configure_prints_the_overrides_if_none_is_given(serve: Serve, capsys: Output) -> None:
    env, requests = serve({LIST: [ONE | {"openclaw_config": None}]})
    assert run(["instances", "configure", "fish"], env) == 0
    assert capsys.readouterr().out == "There are no overrides.\n"
    assert len(requests) == 1


def test_create_waits_and_prints_the_id_alone(serve: Serve, capsys: Output) -> None:
    status = {"id": ONE["id"], "status": "running"}
    env, requests = serve(
        {f"POST {LIST[4:]}": (201, ONE), f"GET {PATH}/status": status, f"GET {PATH}": ONE}
    )
    arguments = ["instances", "create", "fish", "--provider", "gemini"]
    assert run([*arguments, "--config", "a.b=1", "--config", "c=x=y"], env) == 0
    assert capsys.readouterr().out == f"{ONE['id']}\n"
    assert requests[0][1] == {
        "name": "fish",
        "model_provider": "gemini",
        "openclaw_config": {"a.b": 1, "c": "x=y"},
    }


def test_create_with_no_wait_returns_at_once(serve: Serve, capsys: Output) -> None:
    env, requests = serve({f"POST {LIST[4:]}": (201, ONE)})
    assert run(["instances", "create", "fish", "--no-wait", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == ONE
    assert requests == [("POST /v1/instances", {"name": "fish", "model_provider": "anthropic"})]


def test_create_fails_with_the_error_message_of_the_instance(serve: Serve, capsys: Output) -> None:
    path = "GET /v1/instances/ffff"
    env, _ = serve({f"POST {LIST[4:]}": (201, FAILED), f"{path}/status": FAILED, path: FAILED})
    assert run(["instances", "create", "crab"], env) == 8
    told, notes = capsys.readouterr()
    assert told == "ffff\n"
    assert notes.endswith("Error: crab: no key\nSee its log with: chowder-local logs ffff\n")


WAITING = {**ONE, "status": "provisioning"}
STOPPED = {**ONE, "status": "stopped"}


@pytest.mark.parametrize(
    ("there", "code", "message"),
    [
        (ONE, 0, "fish is running.\n"),
        (STOPPED, 8, "Start it with: chowder-local instances start 0a1b2c3d-4e5f\n"),
        (
            {**ONE, "status": "error", "error_message": "no key"},
            8,
            "Error: fish: no key\nSee its log",
        ),
        (
            WAITING,
            9,
            "It continues to boot. Wait for it with: chowder-local instances wait 0a1b2c3d-4e5f\n",
        ),
    ],
)
def test_wait_has_an_exit_code_for_each_outcome(
    serve: Serve, capsys: Output, there: dict[str, Any], code: int, message: str
) -> None:
    env, _ = serve({LIST: [WAITING], f"GET {PATH}/status": there, f"GET {PATH}": there})
    assert run(["instances", "wait", "fish", "--timeout", "0.1"], env) == code
    told, notes = capsys.readouterr()
    assert told == ""
    assert message in notes


def test_wait_prints_the_instance_as_json(serve: Serve, capsys: Output) -> None:
    env, _ = serve({LIST: [WAITING], f"GET {PATH}/status": ONE, f"GET {PATH}": ONE})
    assert run(["instances", "wait", "0a1b", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == ONE


def test_an_override_without_a_value_is_wrong_usage(serve: Serve, capsys: Output) -> None:
    env, requests = serve({})
    assert run(["instances", "create", "fish", "--config", "a.b"], env) == 2
    assert "PATH=VALUE" in capsys.readouterr().err
    assert requests == []


def test_rm_asks_first(serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    env, requests = serve({LIST: [ONE], f"DELETE {PATH}": (204, b"")})
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert run(["instances", "rm", "fish"], env) == 1
    assert "Remove fish" in capsys.readouterr().err
    assert [call for call, _ in requests] == [LIST]
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run(["instances", "rm", "fish"], env) == 0
    assert requests[-1][0] == f"DELETE {PATH}"


def test_rm_with_yes_does_not_ask(serve: Serve, capsys: Output) -> None:
    env, requests = serve({LIST: [ONE], f"DELETE {PATH}": (204, b"")})
    assert run(["instances", "rm", "0a1b", "--yes"], env) == 0
    assert requests[-1][0] == f"DELETE {PATH}"
    assert capsys.readouterr().err == "fish is removed.\n"


@pytest.mark.parametrize("verb", ["stop", "start"])
def test_stop_and_start_print_the_new_status(serve: Serve, capsys: Output, verb: str) -> None:
    env, _ = serve({LIST: [ONE], f"POST {PATH}/{verb}": {**ONE, "status": f"{verb}ped"}})
    assert run(["instances", verb, "fish"], env) == 0
    assert capsys.readouterr().err == f"fish is {verb}ped.\n"
    assert run(["instances", verb, "fish", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out)["status"] == f"{verb}ped"


def test_a_wrong_state_is_an_error_with_the_servers_message(serve: Serve, capsys: Output) -> None:
    refusal = (409, {"detail": "Instance is provisioning."})
    now = {**ONE, "status": "provisioning"}
    env, _ = serve({LIST: [ONE], f"POST {PATH}/stop": refusal, f"GET {PATH}": now})
    assert run(["instances", "stop", "fish"], env) == 1
    assert capsys.readouterr().err == "Error: Instance is provisioning. (HTTP 409)\n"


@pytest.mark.parametrize(("verb", "status"), [("stop", "stopped"), ("start", "running")])
def test_an_instance_that_has_the_status_already_is_no_error(
    serve: Serve, capsys: Output, verb: str, status: str
) -> None:
    refusal = (409, {"detail": f"Instance is {status}."})
    now = {**ONE, "status": status}
    env, _ = serve({LIST: [now], f"POST {PATH}/{verb}": refusal, f"GET {PATH}": now})
    assert run(["instances", verb, "fish"], env) == 0
    assert capsys.readouterr().err == f"fish is {status} already.\n"


def test_restart_stops_and_starts(serve: Serve, capsys: Output) -> None:
    stopped, running = {**ONE, "status": "stopped"}, {**ONE, "status": "running"}
    answers = {LIST: [ONE], f"POST {PATH}/stop": stopped, f"POST {PATH}/start": running}
    env, requests = serve(answers)
    assert run(["instances", "restart", "fish"], env) == 0
    assert [each[0] for each in requests[1:]] == [f"POST {PATH}/stop", f"POST {PATH}/start"]
    assert capsys.readouterr().err == "fish is running.\n"


def test_show_prints_the_whole_instance(serve: Serve, capsys: Output) -> None:
    env, _ = serve({LIST: [ONE], f"GET {PATH}": ONE})
    assert run(["instances", "show", "fish"], env) == 0
    assert json.loads(capsys.readouterr().out) == ONE


def test_several_instances_are_removed_or_none(serve: Serve, capsys: Output) -> None:
    other = {**ONE, "id": "9a1b2c3d-4e5f", "name": "crab"}
    gone = (204, None)
    env, requests = serve(
        {LIST: [ONE, other], f"DELETE {PATH}": gone, f"DELETE /v1/instances/{other['id']}": gone}
    )
    assert run(["instances", "delete", "fish", "nobody", "--yes"], env) == 1
    assert [each[0] for each in requests] == [LIST]
    assert run(["instances", "delete", "fish", "crab", ONE["id"], "--yes"], env) == 0
    assert capsys.readouterr().err.endswith("fish is removed.\ncrab is removed.\n")
    assert len([each for each in requests if each[0].startswith("DELETE")]) == 2


def test_ctrl_c_during_create_says_how_to_wait(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("chowder_local.client.Client.wait_until_running", interrupt)
    env, _ = serve({f"POST {LIST[4:]}": (201, {**ONE, "status": "provisioning"})})
    assert run(["instances", "create", "fish"], env) == 130
    printed, notes = capsys.readouterr()
    assert printed == f"{ONE['id']}\n"
    assert f"Wait for it with: chowder-local instances wait {ONE['id']}\n" in notes


def test_list_is_an_alias_of_ls(serve: Serve, capsys: Output) -> None:
    env, _ = serve({LIST: [ONE]})
    assert run(["instances", "list", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == [ONE]


def test_the_gateway_is_shown_with_its_token(serve: Serve, capsys: Output) -> None:
    path = f"GET /local{PATH[3:]}/gateway"
    env, _ = serve({LIST: [ONE], path: {"gateway_url": None, "token": "t0k"}})
    assert run(["instances", "gateway", "fish"], env) == 0
    assert capsys.readouterr().out == "URL    none while it is not running\nToken  t0k\n"
    assert run(["instances", "gateway", "fish", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out)["token"] == "t0k"


def test_the_logs_of_all_agents_begin_with_their_names(serve: Serve, capsys: Output) -> None:
    agents = [{"id": "a", "name": "cod"}, {"id": "b", "name": "eel"}, {"id": "c", "name": "ray"}]
    more = "logs?tail=200&follow=false"
    env, _ = serve(
        {
            "GET /v1/instances": agents,
            f"GET /local/instances/a/{more}": b"one\ntwo\n",
            f"GET /local/instances/b/{more}": (409, {"detail": "Not now."}),
            f"GET /local/instances/c/{more}": b"three\n",
        }
    )
    assert run(["logs", "--all"], env) == 0
    assert capsys.readouterr() == (
        "cod | one\ncod | two\nray | three\n",
        "eel: Not now. (HTTP 409)\n",
    )
    for wrong in (["logs"], ["logs", "cod", "--all"]):
        assert run(wrong, env) == 2


def test_logs_are_printed_line_by_line(serve: Serve, capsys: Output) -> None:
    path = f"GET /local{PATH[3:]}/logs"
    env, _ = serve(
        {
            LIST: [ONE],
            f"{path}?tail=200&follow=false": b"one\n",
            f"{path}?tail=5&follow=true": b"one\ntwo\n",
            f"{path}?tail=200&follow=false&since=2026-11-28T10%3A00%3A00%2B00%3A00": b"two\n",
        }
    )
    assert run(["logs", "fish"], env) == 0
    assert capsys.readouterr().out == "one\n"
    assert run(["logs", "fish", "-f", "--tail", "5"], env) == 0
    assert capsys.readouterr().out == "one\ntwo\n"
    assert run(["logs", "fish", "--since", "2026-11-28T10:00:00+00:00"], env) == 0
    assert capsys.readouterr().out == "two\n"
    for refused in ("yesterday", "999999d"):
        assert run(["logs", "fish", "--since", refused], env) == 2
        assert "neither a time" in capsys.readouterr().err


def test_an_unknown_instance_is_an_error(serve: Serve, capsys: Output) -> None:
    env, _ = serve({LIST: [ONE]})
    assert run(["logs", "shark"], env) == 1
    assert "'shark'" in capsys.readouterr().err


def egress_view(choice: str | None, in_force: str, status: str = "running") -> dict[str, Any]:
    shown = {"id": ONE["id"], "name": "fish", "status": status}
    return shown | {"egress": choice, "egress_in_force": in_force}


def test_egress_prints_the_choice_in_force_and_its_origin(serve: Serve, capsys: Output) -> None:
    local = f"GET /local{PATH.removeprefix('/v1')}"
    env, _ = serve({LIST: [ONE], local: egress_view(None, "on")})
    assert run(["instances", "egress", "fish"], env) == 0
    assert capsys.readouterr().out == "fish: egress on (the server's setting)\n"


@pytest.mark.parametrize(("word", "sent"), [("off", "off"), ("on", "on"), ("default", None)])
def test_egress_is_chosen_and_waits_until_the_agent_runs_again(
    serve: Serve, capsys: Output, word: str, sent: str | None
) -> None:
    answers = {
        LIST: [ONE],
        f"PATCH /local{PATH.removeprefix('/v1')}": egress_view(sent, sent or "on", "provisioning"),
        f"GET {PATH}/status": {"id": ONE["id"], "status": "running"},
        f"GET {PATH}": ONE,
    }
    env, requests = serve(answers)
    assert run(["instances", "egress", "fish", word, "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == egress_view(sent, sent or "on")
    assert [body for call, body in requests if call.startswith("PATCH")] == [{"egress": sent}]
    assert run(["instances", "egress", "fish", word, "--json", "--no-wait"], env) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "provisioning"


def test_hibernation_is_shown_and_chosen(serve: Serve, capsys: Output) -> None:
    local = f"/local{PATH.removeprefix('/v1')}"
    view = {"hibernate": True, "is_hibernated": True, "status": "running"}
    env, requests = serve(
        {
            LIST: [ONE],
            f"GET {local}": view,
            f"PATCH {local}": view | {"hibernate": False, "is_hibernated": False},
        }
    )
    assert run(["instances", "hibernation", "fish"], env) == 0
    assert capsys.readouterr().out == "fish: hibernation on; it hibernates now\n"
    assert run(["instances", "hibernation", "fish", "off"], env) == 0
    assert capsys.readouterr().out == "fish: hibernation off; it is in memory\n"
    assert requests[-1] == (f"PATCH {local}", {"hibernate": False})
