"""Erases a conversation from the databases of an agent that keeps running.

Runs in the sandbox as the agent's user. In: one line of JSON {home, key, ids}. Out: one line of
JSON {ok, payload: {ids, is_found, is_truncated} | error}. It does not know OpenClaw's tables: it
deletes every row that mentions the conversation, and fails if a row still does. The ids that it
returns find what OpenClaw writes later, when no row leads from the key to them.
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
    from collections.abc import Iterator, Sequence

AGENT = "agents/main/agent/openclaw-agent.sqlite"
STATE = "state/openclaw.sqlite"
BUSY_TIMEOUT_S = 20.0
CHECKPOINT_TIMEOUT_S = 20.0
"""OpenClaw indexes its memories in one read, which takes seconds beside other boots."""
CHECKPOINT_INTERVAL_S = 0.05

LINKS = {"session_id", "current_session_id", "run_id"}
"""Columns with other ids of the same conversation."""

ROUNDS = 5
"""How many times ids may lead to further ids; OpenClaw needs one."""


class Remaining(Exception):
    """A row still mentions the conversation."""


def erase(home: str, key: str, ids: Sequence[str]) -> dict[str, Any]:
    """Erases the conversation, also from free pages and the WAL.

    `is_truncated` is false if a WAL still has its text, until OpenClaw writes over it. Raises
    Remaining if a row still mentions it, sqlite3.Error.
    """
    state = os.path.join(home, ".openclaw")
    with (
        closing(connect(os.path.join(state, AGENT))) as agent,
        closing(connect(os.path.join(state, STATE))) as shared,
    ):
        names = find_names({key, *ids}, [agent, shared])
        found = [database for database in (agent, shared) if mentioned_in(database, names)]
        for database in found:
            erase_from(database, names)
        # The agent's own comes last, since that is what is read for long.
        truncated = [truncate_log(database) for database in reversed(found)]
    return {"ids": sorted(names), "is_found": bool(found), "is_truncated": all(truncated)}


def connect(path: str) -> sqlite3.Connection:
    # "rw" does not create a missing database.
    database = sqlite3.connect(
        f"file:{path}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("PRAGMA secure_delete = ON")
    return database


def find_names(known: set[str], databases: list[sqlite3.Connection]) -> set[str]:
    """All ids of the conversation and of the runs in it."""
    names = set(known)
    for _ in range(ROUNDS):
        more = {
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
        if more <= names:
            break
        names |= more
    return names


def erase_from(database: sqlite3.Connection, names: set[str]) -> None:
    database.execute("BEGIN IMMEDIATE")
    # A trigger may record the first deletion in another table, so delete twice.
    for _ in range(2):
        for table, columns in tables(database):
            where = mentions(columns, names)
            database.execute(f'DELETE FROM "{table}" WHERE {where}', sorted(names) * len(columns))  # noqa: S608 - the schema's own names
    for table in full_text_tables(database):
        # A full-text index keeps deleted words until it is optimized.
        database.execute(f'INSERT INTO "{table}"("{table}") VALUES (\'optimize\')')  # noqa: S608 - the schema's own names
    renumber(database)
    database.execute("COMMIT")
    if place := mentioned_in(database, names):
        raise Remaining(f"{place} still mentions the conversation")
    database.execute("VACUUM")


def mentioned_in(database: sqlite3.Connection, names: set[str]) -> str | None:
    """A table with a row that mentions the conversation."""
    for table, columns in tables(database):
        where = mentions(columns, names)
        query = f'SELECT 1 FROM "{table}" WHERE {where} LIMIT 1'  # noqa: S608 - the schema's own names
        if database.execute(query, sorted(names) * len(columns)).fetchone():
            return table
    return None


def tables(database: sqlite3.Connection) -> Iterator[tuple[str, list[str]]]:
    """The tables and full-text indexes, with their columns."""
    query = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
    plain = [table for (table,) in database.execute(query).fetchall()]
    for table in (*plain, *full_text_tables(database)):
        if not table.startswith("sqlite_"):
            rows = database.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
            yield table, [column for (column,) in rows]


def full_text_tables(database: sqlite3.Connection) -> list[str]:
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL%fts5%'"
    )
    return [table for (table,) in database.execute(query).fetchall()]


def mentions(columns: list[str], names: set[str]) -> str:
    """An SQL condition: one of the columns contains one of the names."""
    return " OR ".join(f'instr("{column}", ?) > 0' for column in columns for _ in names)


def renumber(database: sqlite3.Connection) -> None:
    """Resets the row numbers of empty tables."""
    query = "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
    if not database.execute(query).fetchone():
        return
    for (table,) in database.execute("SELECT name FROM sqlite_sequence").fetchall():
        if not database.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone():  # noqa: S608 - the schema's own names
            database.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))


def truncate_log(database: sqlite3.Connection) -> bool:
    """Truncates the WAL; gives up after CHECKPOINT_TIMEOUT_S if a reader still uses it."""
    ends_s = time.monotonic() + CHECKPOINT_TIMEOUT_S
    while database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() >= ends_s:
            return False
        time.sleep(CHECKPOINT_INTERVAL_S)
    return True


def answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        payload = erase(request["home"], request["key"], request["ids"])
    except (Remaining, sqlite3.Error) as error:
        return {"ok": False, "error": {"message": f"{type(error).__name__}: {error}"}}
    return {"ok": True, "payload": payload}


def serve(requests: TextIO, answers: TextIO) -> None:
    print(json.dumps(answer(json.loads(requests.readline()))), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
