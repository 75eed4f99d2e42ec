"""Lists and approves the people who wait for an approval in a channel, from inside the sandbox.

In: one line of JSON {params: {channel, state_dir}}. Out: one line of JSON {requests}, as OpenClaw's
command line prints them, or {error} with what that has said. OpenClaw's database is read, which
takes milliseconds; its command line, which takes seconds, is run only if the database is another
one. With {params: {channel, code}} that command line approves the code, for which OpenClaw's
protocol has no call; out: {status, output}. With the method `pairing.admit` and {params: {channel,
state_dir, code or sender}} it approves somebody in the database itself; out: {is_found, is_new}
or {error}.
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
ADMIT = (
    "INSERT OR IGNORE INTO channel_pairing_allow_entries"
    " (channel_key, account_id, entry, sort_order, updated_at) VALUES (?1, ?2, ?3,"
    " (SELECT count(*) FROM channel_pairing_allow_entries"
    " WHERE channel_key = ?1 AND account_id = ?2), ?4)"
)
FIND = (
    "SELECT account_id, request_id FROM channel_pairing_requests"
    " WHERE channel_key = ? AND upper(code) = upper(?)"
)
FORGET = (
    "DELETE FROM channel_pairing_requests"
    " WHERE channel_key = ? AND account_id = ? AND request_id = ?"
)
KEPT_S = 3600
"""OpenClaw drops older requests when it next uses them."""
SILENCE_S = 2


def main(request: dict[str, Any]) -> dict[str, Any]:
    if "code" in request:
        return approved(request["channel"], request["code"])
    path = os.path.join(request["state_dir"], DATABASE)
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            rows = database.execute(QUERY, (request["channel"],)).fetchall()
        return {"requests": [each for each in map(request_of, rows) if is_pending(each)]}
    except (sqlite3.Error, ValueError, TypeError, AttributeError):
        return listed_by_command(request["channel"])


def admitted(request: dict[str, Any]) -> dict[str, Any]:
    """Approves a sender, or who has a code, as OpenClaw does."""
    path, channel = os.path.join(request["state_dir"], DATABASE), request["channel"]
    try:
        with closing(sqlite3.connect(path, timeout=10)) as database, database:
            added = 0
            who = [("default", request.get("sender"))]
            if "code" in request:
                who = database.execute(FIND, (channel, request["code"])).fetchall()
            for account, sender in who:
                key = (channel, account, sender)
                added += database.execute(ADMIT, (*key, int(time.time() * 1000))).rowcount
                database.execute(FORGET, key)
    except sqlite3.Error as failed:
        return {"error": str(failed)}
    return {"is_found": bool(who), "is_new": added > 0}


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
    _, output, errors = openclaw("list", channel, "--json")
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:
        return {"error": f"{output}{errors}".strip()}
    return answer


def approved(channel: str, code: str) -> dict[str, Any]:
    status, output, errors = openclaw("approve", "--channel", channel, code)
    return {"status": status, "output": f"{output}{errors}".strip()}


def openclaw(*words: str) -> tuple[int, str, str]:
    """Runs one of OpenClaw's commands for pairings: its exit code, output and errors."""
    child = subprocess.Popen(  # noqa: S603 - no shell, and the server names the channel
        ["env", "NO_COLOR=1", "openclaw", "pairing", *words],  # noqa: S607 - the image's own
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while True:
        try:
            output, errors = child.communicate(timeout=SILENCE_S)
        except subprocess.TimeoutExpired:
            # A silent program counts as dead. Leading spaces are valid JSON.
            sys.stdout.write(" ")
            sys.stdout.flush()
        else:
            return child.returncode, output, errors


if __name__ == "__main__":
    request = json.loads(sys.stdin.readline())
    run = admitted if request.get("method") == "pairing.admit" else main
    sys.stdout.write(json.dumps(run(request["params"])) + "\n")
    sys.stdout.flush()
    # The engine may drop what an ended program wrote, so this one ends when its answer was read.
    sys.stdin.read()
