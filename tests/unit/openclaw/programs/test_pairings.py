"""The program that lists and approves who waits, on a database and with a fake command."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
from asyncio.subprocess import PIPE
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = resources.files("chowder_local.openclaw.programs") / "pairings.py"
COMMAND = ("python3", "-I", "-S", "-c", PROGRAM.read_text("utf-8"))
DEADLINE_S = 60
SCHEMA = (
    "CREATE TABLE channel_pairing_requests (channel_key TEXT NOT NULL, account_id TEXT NOT NULL,"
    " request_id TEXT NOT NULL, code TEXT NOT NULL, created_at TEXT NOT NULL,"
    " last_seen_at TEXT NOT NULL, meta_json TEXT,"
    " PRIMARY KEY (channel_key, account_id, request_id)) STRICT"
)
"""As OpenClaw 2026.9.6 makes it."""


def listed(home: Path, channel: str = "telegram") -> dict[str, Any]:
    request = json.dumps({"params": {"channel": channel, "state_dir": str(home)}})
    path = f"{home}:{os.environ['PATH']}"
    ended = subprocess.run(
        COMMAND, input=f"{request}\n", capture_output=True, text=True, check=True,
        env=os.environ | {"PATH": path},
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def test_those_who_wait_are_read_from_the_database(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    recent, old = now.isoformat(), (now - timedelta(hours=2)).isoformat()
    (tmp_path / "state").mkdir()
    with closing(sqlite3.connect(tmp_path / "state/openclaw.sqlite")) as database, database:
        database.execute(SCHEMA)
        for row in (
            ("telegram", "default", "555", "ABCD2345", recent, recent, '{"username": "ada"}'),
            ("telegram", "default", "556", "EXPIRED2", old, old, None),
            ("line", "default", "557", "ANOTHER2", recent, recent, None),
        ):
            database.execute(f"INSERT INTO channel_pairing_requests VALUES ({'?, ' * 6}?)", row)
    assert listed(tmp_path)["requests"] == [
        {
            "id": "555",
            "code": "ABCD2345",
            "createdAt": recent,
            "lastSeenAt": recent,
            "meta": {"username": "ada", "accountId": "default"},
        }
    ]


def test_openclaws_command_lists_them_if_the_database_is_another(tmp_path: Path) -> None:
    command = tmp_path / "openclaw"
    command.write_text('#!/bin/sh\necho "{\\"requests\\": [], \\"channel\\": \\"$3\\"}"\n')
    command.chmod(0o755)
    assert listed(tmp_path) == {"requests": [], "channel": "telegram"}
    command.write_text("#!/bin/sh\necho Channel line does not support pairing >&2\nexit 1\n")
    assert listed(tmp_path, "line") == {"error": "Channel line does not support pairing"}


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
