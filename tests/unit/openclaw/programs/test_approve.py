"""The program that approves a pairing code, run by this machine's node with a fake command."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = resources.files("chowder_local.openclaw.programs") / "approve.mjs"
DEADLINE_S = 60


async def test_a_slow_approval_writes_spaces(tmp_path: Path) -> None:
    may_end = tmp_path / "may-end"
    os.mkfifo(may_end)
    command = tmp_path / "openclaw"
    command.write_text(f'#!/bin/sh\nread -r _ < {may_end}\necho "Approved $5."\n')
    command.chmod(0o755)
    program = await asyncio.create_subprocess_exec(
        "node", "--input-type=module", "--eval", PROGRAM.read_text("utf-8"),
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
