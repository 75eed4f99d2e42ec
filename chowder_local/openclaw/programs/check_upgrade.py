"""Runs the checks of an OpenClaw release on a copy of an agent's home, and prints what they find.

The release is the one of the image that the program runs in. It asks OpenClaw whether it can open
the databases, and then its doctor, without letting it repair anything.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import Any

STATE = "state/openclaw.sqlite"
AGENT = "agents/main/agent/openclaw-agent.sqlite"
COPY = "/tmp/copy.sqlite"  # noqa: S108 - the container's own
TIMEOUT_S = 120
CRASHED = "health check threw"
READABLE = ("exact", "startup-repairable", "migration-required")


def openclaw(*words: str) -> dict[str, Any] | None:
    """The JSON object that a command prints; None if it prints none, as older releases do."""
    command = ["openclaw", *words, "--json"]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603 - ours
    text = done.stdout.decode(errors="replace")
    try:
        answer = json.loads(text[text.index("{") :])
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def finding(
    check: str, severity: str, message: str, *, is_expected: bool = False
) -> dict[str, Any]:
    return {
        "check": check,
        "severity": severity,
        "message": message,
        "is_expected": is_expected,
    }


def check_state(path: str) -> dict[str, Any]:
    """Whether the release reads the database that sandbox and agents share."""
    with closing(sqlite3.connect(path)) as database:
        # The check takes one file without a journal.
        database.execute("VACUUM INTO ?", (COPY,))
    answer = openclaw("database", "preflight", COPY)
    status = "unknown" if answer is None else str(answer.get("status", "unknown"))
    is_readable = status in READABLE
    severity = "info" if is_readable else "warning" if status == "unknown" else "error"
    message = f"the shared database is {status} for this release"
    return finding("database/state", severity, message, is_expected=is_readable)


def doctor() -> list[dict[str, Any]]:
    answer = openclaw("doctor", "--lint")
    if answer is None:
        return [finding("doctor", "warning", "this release's doctor gives no report")]
    found = answer.get("findings")
    return [_parse(each) for each in (found if isinstance(found, list) else []) if each]


def _parse(each: dict[str, Any]) -> dict[str, Any]:
    severity, message = str(each.get("severity")), str(each.get("message"))
    # Some checks cannot read a database that the release has not migrated yet.
    has_crashed = message.startswith(CRASHED)
    if has_crashed:
        severity = "warning"
    return finding(str(each.get("checkId")), severity, message, is_expected=has_crashed)


def run(home: str) -> list[dict[str, Any]]:
    state = os.path.join(home, ".openclaw", STATE)
    return [*([check_state(state)] if os.path.exists(state) else []), *doctor()]


if __name__ == "__main__":
    print(json.dumps({"findings": run(sys.argv[1])}))  # noqa: T201 - the answer
