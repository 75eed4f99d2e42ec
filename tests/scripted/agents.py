"""Homes on this machine that look like an agent's, with databases that somebody has open."""

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
    "task_runs": "id TEXT",
    "worker_session_placements": "session_key TEXT, state TEXT",
    "cron_jobs": "declaration_key TEXT, enabled INTEGER, job_id TEXT",
    "plugin_state_entries": "plugin_id TEXT, entry_key TEXT",
}


def agent_at(home: Path, *said: str, version: int = 23) -> Path:
    """An agent's folder, whose conversations have these words; its WAL is not checkpointed."""
    state = home / ".openclaw"
    for folder in ("agents/main/agent", "state", "workspace", "tmp"):
        (state / folder).mkdir(parents=True)
    (state / "workspace/AGENTS.md").write_text("# Agents\n")
    with opened(state / CONVERSATIONS) as conversations:
        conversations.execute(f"PRAGMA user_version = {version}")
        conversations.execute("CREATE TABLE transcript_events (words TEXT)")
        conversations.executemany("INSERT INTO transcript_events VALUES (?)", [(w,) for w in said])
    with opened(state / STATE) as kept:
        kept.execute("PRAGMA user_version = 18")
        for table, columns in BLANK_TABLES.items():
            kept.execute(f"CREATE TABLE {table} ({columns})")
        kept.execute("INSERT INTO state_leases VALUES (?)", (str(home),))
        kept.execute("INSERT INTO cron_jobs VALUES ('heartbeat:main', 0, ?)", (str(home),))
        kept.executemany(
            "INSERT INTO worker_session_placements VALUES (?, 'local')", [(w,) for w in said]
        )
    return state


def opened(path: Path) -> closing[sqlite3.Connection]:
    """A connection as OpenClaw has one: with a WAL, and each statement by itself."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    return closing(connection)


def told(state: Path, table: str = "transcript_events", name: str = CONVERSATIONS) -> list[str]:
    """The first column of a table, as whoever opens the database sees it."""
    with opened(state / name) as database:
        return [row[0] for row in database.execute(f"SELECT * FROM {table}")]
