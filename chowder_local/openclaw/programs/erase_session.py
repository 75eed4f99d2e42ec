"""Erases a conversation from the databases of an agent that keeps running.

Runs in the sandbox as the agent's user. In: one line of JSON {home, key, ids}. Out: one line of
JSON {ok, payload: {ids, is_found, is_truncated} | error}. It does not know OpenClaw's tables: it
deletes every row that mentions the conversation, and fails if a row still does. The ids that it
returns find what OpenClaw writes later, when no row leads from the key to them.
"""

from __future__ import annotations

import glob
import json
import os
import sqlite3
import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

AGENT = "agents/main/agent/openclaw-agent.sqlite"
STATE = "state/openclaw.sqlite"
BUSY_TIMEOUT_S = 20.0
CHECKPOINT_TIMEOUT_S = 20.0
"""OpenClaw indexes its memories in one read, which takes seconds beside other boots."""
CHECKPOINT_INTERVAL_S = 0.05
PROCESSES = "/proc"
IDLE_LOOKS = 10
IDLE_INTERVAL_S = 0.02
IDLE_TIMEOUT_S = 30.0
"""Then it is erased anyway, and looked for once more."""

LINKS = {"session_id", "current_session_id", "run_id"}
"""Columns with other ids of the same conversation."""

ROUNDS = 5
"""How many times ids may lead to further ids; OpenClaw needs one."""


class Remaining(Exception):
    """A row still mentions the conversation."""


def erase(home: str, key: str, ids: Sequence[str]) -> dict[str, Any]:
    """Erases the conversation, also from free pages and the WAL, once the agent is idle.

    `is_truncated` is false if a WAL still has its text, until OpenClaw writes over it. Raises
    Remaining if a row still mentions it, sqlite3.Error.
    """
    # OpenClaw writes later what it has read for its index of memories.
    wait_until_idle()
    paths = [os.path.join(home, ".openclaw", name) for name in (AGENT, STATE)]
    with closing(connect(paths[0])) as agent, closing(connect(paths[1])) as shared:
        names = find_names({key, *ids}, [agent, shared])
        found = [
            database
            for path, database in zip(paths, (agent, shared), strict=True)
            # OpenClaw leaves the words of rows that it has deleted itself.
            if mentioned_in(database, names) or is_in_files(path, names)
        ]
        for database in found:
            erase_from(database, names)
        # The shared database comes first, since OpenClaw reads the agent's own for long.
        truncated = [truncate_log(database) for database in reversed(found)]
    return {"ids": sorted(names), "is_found": bool(found), "is_truncated": all(truncated)}


def wait_until_idle() -> None:
    """Returns once all other processes have been idle for a moment, or after IDLE_TIMEOUT_S."""
    ends_s = time.monotonic() + IDLE_TIMEOUT_S
    looks = 0
    while looks < IDLE_LOOKS and time.monotonic() < ends_s:
        looks = 0 if is_busy() else looks + 1
        # The kernel does not tell when threads of other processes come to rest, so this looks
        # again.
        time.sleep(IDLE_INTERVAL_S)


def is_busy() -> bool:
    """Whether a thread of another process runs, or waits for a processor or the disk."""
    for path in glob.iglob(f"{PROCESSES}/[0-9]*/task/*/stat"):
        # The thread may have ended since.
        with suppress(FileNotFoundError, ProcessLookupError), open(path, "rb") as file:
            state = file.read().rpartition(b") ")[2][:1]
            if state in {b"R", b"D"} and path.split("/")[-4] != str(os.getpid()):
                return True
    return False


def is_in_files(path: str, names: set[str]) -> bool:
    """Whether a database's file or its WAL has one of the names, in free pages too."""
    for each in (path, f"{path}-wal"):
        with suppress(FileNotFoundError), open(each, "rb") as file:
            content = file.read()
            if any(name.encode() in content for name in names):
                return True
    return False


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
    # Before others can write again.
    if place := mentioned_in(database, names):
        raise Remaining(f"{place} still mentions the conversation")
    database.execute("COMMIT")
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
    # The engine may drop what an ended program wrote, so this one ends when its answer was read.
    sys.stdin.read()
