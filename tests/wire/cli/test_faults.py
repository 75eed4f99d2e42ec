"""`faults` against a scripted server."""

import json
from typing import Any

import pytest

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

NONE = dict.fromkeys(
    (
        "instance_id",
        "status",
        "detail",
        "retry_after_s",
        "after_events",
        "method",
        "channel",
        "effect",
        "path",
    )
)
ONE: dict[str, Any] = {
    **NONE, "id": "11112222-3333", "kind": "message", "left": 2, "status": 429, "delay_s": 1.5,
    "instance_id": "0a1b2c3d-4e5f", "detail": "Slow [down].",
}  # fmt: skip
STREAM = {**NONE, "id": "44445555", "kind": "stream", "left": 1, "after_events": 3, "delay_s": 0.0}
CALL = {**NONE, "id": "66667777", "kind": "call", "left": 1, "path": "/v1/keys", "delay_s": 0.0}
TWICE = {
    **NONE, "id": "88889999", "kind": "channel", "left": 1, "channel": "slack", "effect": "twice",
    "delay_s": 0.0,
}  # fmt: skip
LIST = "GET /local/faults"
FISH = {"id": "0a1b2c3d-4e5f", "name": "fish"}


def test_a_fault_is_set_and_its_id_printed(serve: Serve, capsys: Output) -> None:
    table = {"GET /v1/instances": [FISH], "POST /local/faults": (201, ONE)}
    env, requests = serve(table)
    arguments = ["faults", "add", "message", "-n", "2", "-i", "fish", "--status", "429"]
    arguments += ["--retry-after", "3", "--delay", "1.5"]
    assert run([*arguments, "--detail", "Slow down."], env) == 0
    assert capsys.readouterr().out == "11112222-3333\n"
    assert requests[-1] == (
        "POST /local/faults",
        {
            "kind": "message", "times": 2, "instance_id": "0a1b2c3d-4e5f", "status": 429,
            "retry_after_s": 3, "delay_s": 1.5, "detail": "Slow down.",
        },
    )  # fmt: skip


def test_a_fault_of_a_call_is_named_by_its_path(serve: Serve, capsys: Output) -> None:
    env, requests = serve({"POST /local/faults": (201, CALL)})
    arguments = ["faults", "add", "call", "--path", "/v1/keys", "--method", "GET", "--json"]
    assert run(arguments, env) == 0
    assert json.loads(capsys.readouterr().out) == CALL
    assert requests[-1][1] == {
        "kind": "call", "times": 1, "delay_s": 0.0, "path": "/v1/keys", "method": "GET",
    }  # fmt: skip


def test_the_list_has_the_effects_of_each_fault(serve: Serve, capsys: Output) -> None:
    env, _ = serve({LIST: [ONE, STREAM, {**CALL, "method": "GET", "status": 500}, TWICE]})
    assert run(["faults", "ls"], env) == 0
    _, one, stream, call, twice = [
        " ".join(x.split()) for x in capsys.readouterr().out.splitlines()
    ]
    assert one == '11112222 message 2 for 0a1b2c3d, waits 1.5 s, answers 429, "Slow [down]."'
    assert stream == "44445555 stream 1 breaks off after 3 events"
    assert call == "66667777 call 1 GET /v1/keys, answers 500"
    assert twice == "88889999 channel 1 slack, twice"


def test_a_fault_is_removed_by_the_beginning_of_its_id(serve: Serve) -> None:
    env, requests = serve({LIST: [ONE, STREAM], "DELETE /local/faults/44445555": (204, b"")})
    assert run(["faults", "rm", "4444"], env) == 0
    assert requests[-1][0] == "DELETE /local/faults/44445555"


def test_all_faults_are_removed(serve: Serve) -> None:
    env, requests = serve({"DELETE /local/faults": (204, b"")})
    assert run(["faults", "rm", "--all"], env) == 0
    assert [call for call, _ in requests] == ["DELETE /local/faults"]


@pytest.mark.parametrize("arguments", [["rm"], ["rm", "x", "--all"], ["add"], ["add", "boredom"]])
def test_missing_or_contradictory_arguments_are_wrong_usage(
    serve: Serve, arguments: list[str]
) -> None:
    env, requests = serve({})
    assert run(["faults", *arguments], env) == 2
    assert requests == []


def test_an_unknown_fault_is_an_error(serve: Serve, capsys: Output) -> None:
    env, _ = serve({LIST: [ONE]})
    assert run(["faults", "rm", "9"], env) == 1
    assert "No fault is called '9'" in capsys.readouterr().err
