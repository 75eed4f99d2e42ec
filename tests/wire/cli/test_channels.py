"""`channels` against a scripted server."""

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

FISH: dict[str, Any] = {"id": "0a1b2c3d-4e5f", "name": "fish"}
INSTANCES = "GET /v1/instances"
CHANNELS = f"{INSTANCES}/{FISH['id']}/channels"
CONNECT = f"POST /v1/instances/{FISH['id']}/channels/telegram/connect"
CONNECTED = {
    "channel": "telegram",
    "status": "connected",
    "qr_data": None,
    "qr_image_base64": None,
    "message": "telegram is connected.",
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_list_tells_which_are_enabled(serve: Serve, capsys: Output) -> None:
    listed = [{"channel": "telegram", "connection_type": "token", "enabled": True}]
    env, _ = serve({INSTANCES: [FISH], CHANNELS: listed})
    assert run(["channels", "ls", "fish"], env) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["telegram", "token", "yes"]


def test_those_who_wait_are_listed_with_their_codes(serve: Serve, capsys: Output) -> None:
    pairings = f"GET /local/instances/{FISH['id']}/channels/telegram/pairings"
    waiting = {"code": "ABCD2345", "sender": "555", "created_at": "2026-11-30T12:00:00Z"}
    env, _ = serve({INSTANCES: [FISH], pairings: [waiting]})
    assert run(["channels", "pairings", "fish", "telegram"], env) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == list(waiting.values())


def test_the_fields_of_a_channel_are_listed(serve: Serve, capsys: Output) -> None:
    required = {"token": "The bot's token."}
    env, _ = serve(
        {
            INSTANCES: [FISH],
            f"{CHANNELS}/telegram": {"required_fields": required},
            f"{CHANNELS}/whatsapp": {"required_fields": {}},
        }
    )
    assert run(["channels", "fields", "fish", "telegram", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == [{"field": "token", "what": required["token"]}]
    assert run(["channels", "fields", "fish", "whatsapp"], env) == 0
    assert capsys.readouterr() == ("", "whatsapp requires no fields.\n")


def test_a_field_is_read_from_a_file(serve: Serve, capsys: Output, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("123:abc\n")
    env, requests = serve({INSTANCES: [FISH], CONNECT: CONNECTED})
    fields = [f"token=@{tmp_path / 'token'}", "dm_policy=open"]
    assert run(["channels", "connect", "fish", "telegram", *fields], env) == 0
    assert requests[-1] == (CONNECT, {"config": {"token": "123:abc", "dm_policy": "open"}})
    assert capsys.readouterr().out == "telegram is connected.\n"


def test_a_terminal_is_asked_for_what_is_missing(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = {"required_fields": {"token": "The bot's token.", "chat": "A chat.", "room": "A room."}}
    env, requests = serve({INSTANCES: [FISH], f"{CHANNELS}/telegram": info, CONNECT: CONNECTED})
    monkeypatch.setattr(sys, "stdin", Terminal())
    answers = iter(["123:abc", ""])
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _: next(answers))
    assert run(["channels", "connect", "fish", "telegram", "room=7"], env) == 0
    # What is left empty is not sent, so that OpenClaw keeps what it has.
    assert requests[-1] == (CONNECT, {"config": {"room": "7", "token": "123:abc"}})


def test_a_qr_code_is_written_to_a_file(serve: Serve, capsys: Output, tmp_path: Path) -> None:
    code = base64.b64encode(b"picture").decode()
    asked = CONNECTED | {"status": "pending", "qr_image_base64": code, "message": "Scan it."}
    env, _ = serve({INSTANCES: [FISH], CONNECT: asked})
    picture = tmp_path / "scan.png"
    assert run(["channels", "connect", "fish", "telegram", "--qr", str(picture)], env) == 0
    assert picture.read_bytes() == b"picture"
    assert str(picture) in capsys.readouterr().err


def test_the_status_tells_why_it_is_not_connected(serve: Serve, capsys: Output) -> None:
    state = {"connected": False, "details": {"reason": "unauthorized"}}
    env, _ = serve({INSTANCES: [FISH], f"{CHANNELS}/telegram/status": state})
    assert run(["channels", "status", "fish", "telegram"], env) == 0
    assert capsys.readouterr().out == "telegram is not connected: unauthorized\n"
    assert run(["channels", "status", "fish", "telegram", "-o", "json"], env) == 0
    assert json.loads(capsys.readouterr().out) == state


def test_a_sender_is_paired_and_a_channel_disconnected(serve: Serve, capsys: Output) -> None:
    path = f"POST /v1/instances/{FISH['id']}/channels/telegram"
    pairing = {"output": "Approved telegram sender 555."}
    env, requests = serve(
        {INSTANCES: [FISH], f"{path}/pair": pairing, f"{path}/disconnect": (204, b"")}
    )
    assert run(["channels", "pair", "fish", "telegram", "ABCD2345"], env) == 0
    assert requests[-1] == (f"{path}/pair", {"code": "ABCD2345"})
    assert capsys.readouterr().out == "Approved telegram sender 555.\n"
    assert run(["channels", "disconnect", "fish", "telegram"], env) == 0
    assert requests[-1] == (f"{path}/disconnect", None)
