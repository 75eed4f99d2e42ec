"""Erases a conversation from the databases of an agent that goes on running.

Runs in the sandbox as the agent's user. In: one line of JSON {home, key}. Out: one line of JSON
{ok, payload | error}. It knows no table by its name but those of SQLite: whatever mentions the
conversation is deleted, and it is a failure if something still does.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENT = "agents/main/agent/openclaw-agent.sqlite"
STATE = "state/openclaw.sqlite"
BUSY_TIMEOUT_S = 20.0
CHECKPOINT_TIMEOUT_S = 5.0
CHECKPOINT_INTERVAL_S = 0.05

LINKS = {"session_id", "current_session_id", "run_id"}
"""Columns with names that other rows know the same conversation by."""

ROUNDS = 5
"""So often something may lead to something else; in OpenClaw it is once."""


class Remaining(Exception):
    """Something still mentions the conversation."""


def erase(home: str, key: str) -> None:
    """Leaves nothing of it, neither in pages that are free now nor in the WAL.

    Raises Remaining, sqlite3.Error.
    """
    state = os.path.join(home, ".openclaw")
    with (
        closing(opened(os.path.join(state, AGENT))) as agent,
        closing(opened(os.path.join(state, STATE))) as shared,
    ):
        names = names_of(key, [agent, shared])
        for database in (agent, shared):
            erase_from(database, names)


def opened(path: str) -> sqlite3.Connection:
    # Not made, if it is not there.
    database = sqlite3.connect(
        f"file:{path}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("PRAGMA secure_delete = ON")
    return database


def names_of(key: str, databases: list[sqlite3.Connection]) -> set[str]:
    """What the conversation, and the runs in it, are called by."""
    names = {key}
    for _ in range(ROUNDS):
        found = {
            name
            for database in databases
            for table, columns in tables(database)
            for link in LINKS & set(columns)
            for (name,) in database.execute(
                f'SELECT DISTINCT "{link}" FROM "{table}" WHERE {mentions(columns, names)}',  # noqa: S608 - the schema's own names
                sorted(names) * len(columns),
            )
            if isinstance(name, str) and name
        }
        if found <= names:
            break
        names |= found
    return names


def erase_from(database: sqlite3.Connection, names: set[str]) -> None:
    database.execute("BEGIN IMMEDIATE")
    # Triggers may note what another's deletion was about: what is left of that goes, too.
    for _ in range(2):
        for table, columns in tables(database):
            where = mentions(columns, names)
            database.execute(f'DELETE FROM "{table}" WHERE {where}', sorted(names) * len(columns))  # noqa: S608 - the schema's own names
    for table in searched(database):
        # Its index keeps the words of what was deleted until it is put in order.
        database.execute(f'INSERT INTO "{table}"("{table}") VALUES (\'optimize\')')  # noqa: S608 - the schema's own names
    renumber(database)
    database.execute("COMMIT")
    for table, columns in tables(database):
        where = mentions(columns, names)
        question = f'SELECT 1 FROM "{table}" WHERE {where} LIMIT 1'  # noqa: S608 - the schema's own names
        if database.execute(question, sorted(names) * len(columns)).fetchone():
            raise Remaining(f"{table} still mentions it")
    database.execute("VACUUM")
    truncate_log(database)


def tables(database: sqlite3.Connection) -> Iterator[tuple[str, list[str]]]:
    """Those that are no index of another, with their columns."""
    listed = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
    for (table,) in database.execute(listed).fetchall():
        if not table.startswith("sqlite_"):
            found = database.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
            yield table, [column for (column,) in found]


def searched(database: sqlite3.Connection) -> list[str]:
    listed = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL%fts5%'"
    )
    return [table for (table,) in database.execute(listed).fetchall()]


def mentions(columns: list[str], names: set[str]) -> str:
    """A condition that is true if one of the columns contains one of the names."""
    each = (f'instr("{column}", ?) > 0' for column in columns for _ in names)
    return " OR ".join(each)


def renumber(database: sqlite3.Connection) -> None:
    """Lets tables that are empty now number their rows from the beginning."""
    known = "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
    if not database.execute(known).fetchone():
        return
    for (table,) in database.execute("SELECT name FROM sqlite_sequence").fetchall():
        if not database.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone():  # noqa: S608 - the schema's own names
            database.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))


def truncate_log(database: sqlite3.Connection) -> None:
    """Waits for those who read in it; one who does not end makes no difference to what is read."""
    until_s = time.monotonic() + CHECKPOINT_TIMEOUT_S
    while database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() >= until_s:
            return
        time.sleep(CHECKPOINT_INTERVAL_S)


def answer(question: dict[str, Any]) -> dict[str, Any]:
    try:
        erase(question["home"], question["key"])
    except (Remaining, sqlite3.Error) as failure:
        return {"ok": False, "error": {"message": f"{type(failure).__name__}: {failure}"}}
    return {"ok": True, "payload": {}}


def serve(questions: TextIO, answers: TextIO) -> None:
    print(json.dumps(answer(json.loads(questions.readline()))), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
