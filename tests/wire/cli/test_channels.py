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


def test_a_qr_code_that_is_no_picture_is_an_error(
    serve: Serve, capsys: Output, tmp_path: Path
) -> None:
    asked = CONNECTED | {"status": "pending", "qr_image_base64": "\x1b[31m", "message": "Scan it."}
    env, _ = serve({INSTANCES: [FISH], CONNECT: asked})
    picture = tmp_path / "scan.png"
    assert run(["channels", "connect", "fish", "telegram", "--qr", str(picture)], env) == 1
    assert "nobody can scan it" in capsys.readouterr().err
    assert not picture.exists()


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


def test_a_person_says_something_and_the_answer_is_printed(
    serve: Serve, capsys: Output, tmp_path: Path
) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    path = f"/local/instances/{FISH['id']}/channels/telegram/messages"
    answer = {"text": "Hi.\x1b[0m"}
    env, requests = serve({
        "GET /v1/instances": [FISH], f"POST {path}": (201, {"message": {}, "answers": [answer]})
    })  # fmt: skip
    say = ["channels", "say", "fish", "telegram", "Hello", "--as", "Bob", "--group", "Team"]
    assert run([*say, "--approve", "--image", str(picture)], env) == 0
    assert "Hi." in (printed := capsys.readouterr().out)
    assert "\x1b" not in printed
    assert requests[-1][1] == {
        "from": "Bob", "text": "Hello", "group": "Team", "image": "iVBORw==", "approve": True,
        "wait_s": 60.0,
    }  # fmt: skip
    env, _ = serve({
        "GET /v1/instances": [FISH], f"POST {path}": (201, {"message": {}, "answers": []})
    })  # fmt: skip
    assert run(say, env) == 0
    assert "has not answered" in capsys.readouterr().err


def test_what_was_said_in_a_channel_is_a_table(serve: Serve, capsys: Output) -> None:
    path = f"GET /local/instances/{FISH['id']}/channels/telegram/messages"
    asked = {"id": 1, "at": "2026-12-01T09:00:00Z", "author": "person", "person": "Ada",
             "group": None, "kind": "message", "text": "Hello\n\nthere",
             "image_type": None}  # fmt: skip
    typing = asked | {"id": 2, "author": "agent", "group": "Team", "kind": "typing", "text": None}
    query = "after=0&wait_s=0.0&limit=100"
    env, _ = serve({"GET /v1/instances": [FISH], f"{path}?{query}": [asked, typing]})
    assert run(["channels", "inbox", "fish", "telegram"], env) == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["2026-12-01", "09:00", "Ada", "Hello", "there"]
    assert second.split()[2:] == ["the", "agent", "in", "Team", "(typing)"]
    env, _ = serve({
        "GET /v1/instances": [FISH],
        f"GET /local/instances/{FISH['id']}/channels/messages?{query}": [
            asked | {"channel": "telegram"}
        ],
    })  # fmt: skip
    assert run(["channels", "inbox", "fish"], env) == 0
    _, first = capsys.readouterr().out.splitlines()
    assert first.split() == ["telegram", "2026-12-01", "09:00", "Ada", "Hello", "there"]
