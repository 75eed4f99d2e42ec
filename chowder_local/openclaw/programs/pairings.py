"""Lists the people who wait for an approval in a channel, from inside their agent's sandbox.

In: one line of JSON {params: {channel, state_dir}}. Out: one line of JSON {requests}, as OpenClaw's
command line prints them, or {error} with what that has said. OpenClaw's database is read, which
takes milliseconds; its command line, which takes seconds, is run only if the database is another
one.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime
from typing import Any

DATABASE = "state/openclaw.sqlite"
TABLE = "channel_pairing_requests"
COLUMNS = ("request_id", "code", "created_at", "last_seen_at", "account_id", "meta_json")
MAX_REQUESTS = 100
QUERY = (
    f"SELECT {', '.join(COLUMNS)} FROM {TABLE}"  # noqa: S608 - our constants
    f" WHERE channel_key = ? ORDER BY created_at LIMIT {MAX_REQUESTS}"
)
KEPT_S = 3600
"""OpenClaw drops older requests when it next uses them."""
SILENCE_S = 2


def main(request: dict[str, Any]) -> dict[str, Any]:
    path = os.path.join(request["state_dir"], DATABASE)
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            rows = database.execute(QUERY, (request["channel"],)).fetchall()
        return {"requests": [each for each in map(request_of, rows) if is_pending(each)]}
    except (sqlite3.Error, ValueError, TypeError, AttributeError):
        return listed_by_command(request["channel"])


def request_of(row: tuple[str, ...]) -> dict[str, Any]:
    sender, code, created_at, last_seen_at, account, meta = row
    members = json.loads(meta) if meta else {}
    known = {name: value for name, value in members.items() if isinstance(value, str)}
    known["accountId"] = account
    times = {"createdAt": created_at, "lastSeenAt": last_seen_at}
    return {"id": sender, "code": code, **times, "meta": known}


def is_pending(request: dict[str, Any]) -> bool:
    return time.time() - datetime.fromisoformat(request["createdAt"]).timestamp() <= KEPT_S


def listed_by_command(channel: str) -> dict[str, Any]:
    child = subprocess.Popen(  # noqa: S603 - no shell, and the server names the channel
        ["openclaw", "pairing", "list", channel, "--json"],  # noqa: S607 - the image's own
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ended = None
    while ended is None:
        try:
            ended = child.communicate(timeout=SILENCE_S)
        except subprocess.TimeoutExpired:
            # A silent program counts as dead. Leading spaces are valid JSON.
            sys.stdout.write(" ")
            sys.stdout.flush()
    try:
        answer: dict[str, Any] = json.loads(ended[0])
    except ValueError:
        return {"error": "".join(ended).strip()}
    return answer


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.stdin.readline())["params"])) + "\n")
    sys.stdout.flush()
    # The engine may drop what an ended program wrote, so this one ends when its answer was read.
    sys.stdin.read()
