"""Agents' homes on this machine, with databases in OpenClaw's format."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CONVERSATIONS = "agents/main/agent/openclaw-agent.sqlite"
STATE = "state/openclaw.sqlite"
BLANK_TABLES = {
    "state_leases": "owner TEXT",
    "exec_approvals_config": "config_key TEXT, raw_json TEXT",
    "operator_approvals": "approval_id TEXT, status TEXT",
    "task_runs": "id TEXT",
    "worker_session_placements": "session_key TEXT, state TEXT",
    "cron_jobs": "declaration_key TEXT, enabled INTEGER, job_id TEXT",
    "channel_pairing_allow_entries": "channel_key TEXT, entry TEXT",
    "plugin_state_entries": "plugin_id TEXT, namespace TEXT, entry_key TEXT",
}


def agent_at(home: Path, *texts: str, version: int = 23) -> Path:
    """Creates an agent's state folder whose conversations contain `texts`."""
    state = home / ".openclaw"
    for folder in ("agents/main/agent", "state", "workspace", "tmp"):
        (state / folder).mkdir(parents=True)
    (state / "workspace/AGENTS.md").write_text("# Agents\n")
    with connect(state / CONVERSATIONS) as conversations:
        conversations.execute(f"PRAGMA user_version = {version}")
        conversations.execute("CREATE TABLE transcript_events (words TEXT)")
        conversations.executemany(
            "INSERT INTO transcript_events VALUES (?)", [(text,) for text in texts]
        )
    with connect(state / STATE) as database:
        database.execute("PRAGMA user_version = 18")
        for table, columns in BLANK_TABLES.items():
            database.execute(f"CREATE TABLE {table} ({columns})")
        database.execute("INSERT INTO state_leases VALUES (?)", (str(home),))
        database.execute("INSERT INTO cron_jobs VALUES ('heartbeat:main', 0, ?)", (str(home),))
        database.executemany(
            "INSERT INTO worker_session_placements VALUES (?, 'local')", [(text,) for text in texts]
        )
    return state


def connect(path: Path) -> closing[sqlite3.Connection]:
    """A connection like OpenClaw's: with a WAL, in autocommit mode."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    return closing(connection)


def first_column(
    state: Path, table: str = "transcript_events", name: str = CONVERSATIONS
) -> list[str]:
    """The first column of a table, read over a new connection."""
    with connect(state / name) as database:
        return [row[0] for row in database.execute(f"SELECT * FROM {table}")]
