"""`keys` against a scripted server."""

import io
import json
import sys
from typing import Any

import pytest

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

FISH: dict[str, Any] = {"id": "0a1b2c3d-4e5f", "name": "fish"}
ONE: dict[str, Any] = {
    "id": "11112222-3333",
    "name": "page",
    "key_prefix": "chd_sk_abcde",
    "is_active": True,
    "expires_at": None,
    "last_used_at": "2026-11-24T10:11:12.5Z",
}
OLD = {**ONE, "id": "44445555-6666", "is_active": False, "expires_at": "2026-11-01T00:00:00Z"}
LIST = "GET /v1/keys"


def test_the_list_is_a_table(serve: Serve, capsys: Output) -> None:
    env, _ = serve({LIST: [OLD, ONE]})
    assert run(["keys", "ls"], env) == 0
    _, old, one = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert old == ["44445555", "page", "chd_sk_abcde…", "inactive", "2026-11-01", "00:00",
                   "2026-11-24", "10:11"]  # fmt: skip
    assert one == ["11112222", "page", "chd_sk_abcde…", "active", "-", "2026-11-24", "10:11"]


def test_create_prints_the_key_alone(serve: Serve, capsys: Output) -> None:
    made = {**ONE, "raw_key": "chd_sk_abcdefgh"}
    env, requests = serve({"GET /v1/instances": [FISH], "POST /v1/keys": (201, made)})
    arguments = ["keys", "create", "page", "-i", "fish", "-p", "read", "-p", "interact"]
    assert run([*arguments, "--expires-at", "2027-01-01"], env) == 0
    printed, notes = capsys.readouterr()
    assert printed == "chd_sk_abcdefgh\n"
    assert "not shown again" in notes
    assert requests[-1] == (
        "POST /v1/keys",
        {
            "name": "page",
            "instance_ids": [FISH["id"]],
            "permissions": ["read", "interact"],
            "expires_at": "2027-01-01T00:00:00",
        },
    )
    assert run([*arguments, "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == made
    assert "expires_at" not in requests[-1][1]


@pytest.mark.parametrize(
    "options",
    [["-i", "fish"], ["-p", "read"], ["-i", "fish", "-p", "write"],
     ["-i", "fish", "-p", "read", "--expires-at", "soon"]],
)  # fmt: skip
def test_missing_or_invalid_options_are_wrong_usage(
    serve: Serve, capsys: Output, options: list[str]
) -> None:
    env, requests = serve({})
    assert run(["keys", "create", "page", *options], env) == 2
    assert requests == []


def test_revoke_asks_first(serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    call = f"DELETE /v1/keys/{ONE['id']}"
    env, requests = serve({LIST: [OLD, ONE], call: (204, b"")})
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert run(["keys", "revoke", "page"], env) == 1
    assert f"Revoke page ({ONE['id']})?" in capsys.readouterr().err
    assert [each for each, _ in requests] == [LIST]
    assert run(["keys", "revoke", "page", "--yes"], env) == 0
    assert requests[-1][0] == call
    assert capsys.readouterr().err == "page is revoked.\n"


def test_revoking_an_inactive_key_is_no_error(serve: Serve, capsys: Output) -> None:
    env, requests = serve({LIST: [OLD]})
    for wanted in ("page", "4444", OLD["id"]):
        assert run(["keys", "revoke", str(wanted)], env) == 0
        assert capsys.readouterr().err == "page is revoked or expired already.\n"
    assert {call for call, _ in requests} == {LIST}
