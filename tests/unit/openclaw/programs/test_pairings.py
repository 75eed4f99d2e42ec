"""The program that lists and approves who waits, on a database and with a fake command."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from asyncio.subprocess import PIPE
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.openclaw.programs import pairings

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = resources.files("chowder_local.openclaw.programs") / "pairings.py"
COMMAND = ("python3", "-I", "-S", "-c", PROGRAM.read_text("utf-8"))
DEADLINE_S = 60
SCHEMA = (
    "CREATE TABLE channel_pairing_requests (channel_key TEXT NOT NULL, account_id TEXT NOT NULL,"
    " request_id TEXT NOT NULL, code TEXT NOT NULL, created_at TEXT NOT NULL,"
    " last_seen_at TEXT NOT NULL, meta_json TEXT,"
    " PRIMARY KEY (channel_key, account_id, request_id)) STRICT;"
    " CREATE TABLE channel_pairing_allow_entries (channel_key TEXT NOT NULL,"
    " account_id TEXT NOT NULL, entry TEXT NOT NULL, sort_order INTEGER NOT NULL,"
    " updated_at INTEGER NOT NULL, PRIMARY KEY (channel_key, account_id, entry)) STRICT"
)
"""As OpenClaw 2026.9.6 makes it."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state directory with people who wait in two channels."""
    now = datetime.now(UTC)
    recent, old = now.isoformat(), (now - timedelta(hours=2)).isoformat()
    (tmp_path / "state").mkdir()
    with closing(sqlite3.connect(tmp_path / pairings.DATABASE)) as database, database:
        database.executescript(SCHEMA)
        for row in (
            ("telegram", "default", "555", "ABCD2345", recent, recent, '{"username": "ada"}'),
            ("telegram", "default", "556", "EXPIRED2", old, old, None),
            ("line", "default", "557", "ANOTHER2", recent, recent, None),
        ):
            database.execute(f"INSERT INTO channel_pairing_requests VALUES ({'?, ' * 6}?)", row)
    return tmp_path


def command(home: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts a script in the place of OpenClaw's command line."""
    path = home / "openclaw"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")


def listed(home: Path, channel: str = "telegram") -> dict[str, Any]:
    return pairings.main({"channel": channel, "state_dir": str(home)})


def admitted(home: Path, **who: str) -> dict[str, Any]:
    return pairings.admitted({"channel": "telegram", "state_dir": str(home), **who})


def allowed(home: Path) -> list[tuple[str, str, int]]:
    """Who is approved in Telegram: account, sender, order."""
    with closing(sqlite3.connect(home / pairings.DATABASE)) as database:
        return database.execute(
            "SELECT account_id, entry, sort_order FROM channel_pairing_allow_entries"
            " WHERE channel_key = 'telegram' ORDER BY sort_order"
        ).fetchall()


def test_those_who_wait_are_read_from_the_database(home: Path) -> None:
    (waiting,) = listed(home)["requests"]
    assert waiting["createdAt"] == waiting["lastSeenAt"]
    assert (waiting["id"], waiting["code"]) == ("555", "ABCD2345")
    assert waiting["meta"] == {"username": "ada", "accountId": "default"}


def test_openclaws_command_lists_them_if_the_database_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path, monkeypatch, """echo "{\\"requests\\": [], \\"channel\\": \\"$3\\"}\"""")
    assert listed(tmp_path) == {"requests": [], "channel": "telegram"}
    command(tmp_path, monkeypatch, "echo Channel line does not support pairing >&2; exit 1")
    assert listed(tmp_path, "line") == {"error": "Channel line does not support pairing"}


def test_who_is_approved_waits_no_longer_and_is_allowed_once(home: Path) -> None:
    assert admitted(home, code="abcd2345") == {"is_found": True, "is_new": True}
    assert listed(home)["requests"] == []
    assert admitted(home, code="ABCD2345") == {"is_found": False, "is_new": False}
    # Of another channel.
    assert admitted(home, code="ANOTHER2") == {"is_found": False, "is_new": False}
    assert admitted(home, sender="555") == {"is_found": True, "is_new": False}
    assert admitted(home, sender="558") == {"is_found": True, "is_new": True}
    assert allowed(home) == [("default", "555", 0), ("default", "558", 1)]


def test_a_database_that_openclaw_has_changed_is_an_error_of_the_approval(home: Path) -> None:
    with closing(sqlite3.connect(home / pairings.DATABASE)) as database:
        database.execute("DROP TABLE channel_pairing_allow_entries")
    assert "channel_pairing_allow_entries" in admitted(home, code="ABCD2345")["error"]
    assert len(listed(home)["requests"]) == 1


def test_a_code_is_approved_by_openclaws_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path, monkeypatch, 'echo "Approved $4 $5."')
    answer = pairings.main({"channel": "telegram", "code": "ABCD2345"})
    assert answer == {"status": 0, "output": "Approved telegram ABCD2345."}


async def test_a_slow_approval_writes_spaces(tmp_path: Path) -> None:
    may_end = tmp_path / "may-end"
    os.mkfifo(may_end)
    command = tmp_path / "openclaw"
    command.write_text(f'#!/bin/sh\nread -r _ < {may_end}\necho "Approved $5."\n')
    command.chmod(0o755)
    program = await asyncio.create_subprocess_exec(
        *COMMAND,
        stdin=PIPE, stdout=PIPE, env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert program.stdin is not None
    assert program.stdout is not None
    request = {"params": {"channel": "telegram", "code": "ABCD2345"}}
    try:
        async with asyncio.timeout(DEADLINE_S):
            program.stdin.write(json.dumps(request).encode() + b"\n")
            # The program writes spaces while the command runs.
            assert await program.stdout.read(1) == b" "
    finally:
        # No writer is left, which ends its input.
        os.close(os.open(may_end, os.O_RDWR))
    async with asyncio.timeout(DEADLINE_S):
        answer = json.loads(await program.stdout.readline())
        # What an ended program wrote can be lost.
        assert program.returncode is None
        program.stdin.close()
        assert await program.wait() == 0
    assert answer == {"status": 0, "output": "Approved ABCD2345."}
