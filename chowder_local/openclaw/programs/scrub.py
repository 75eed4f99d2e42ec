"""Removes OpenClaw's log of runs from an agent's databases before they leave the machine.

The log has each run's configuration, with environment variables and the relay's address. The
program runs in its own container, because the databases come from an agent and are untrusted.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGS = "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 11) = 'trajectory_'"


def databases(home: str) -> Iterator[str]:
    """The paths of the agent's SQLite files, by their extension; links are not followed."""
    for folder, _, names in os.walk(os.path.join(home, ".openclaw", "agents")):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".sqlite") and not os.path.islink(path) and os.path.getsize(path):
                yield path


def scrub(path: str) -> None:
    """Erases the log, also from free pages and the WAL."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        # Do not run functions that the schema names.
        database.execute("PRAGMA trusted_schema = OFF")
        for (table,) in database.execute(LOGS).fetchall():
            quoted = table.replace('"', '""')
            database.execute(f'DELETE FROM "{quoted}"')  # noqa: S608 - a table's own name
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def run(home: str) -> None:
    for path in list(databases(home)):
        scrub(path)


if __name__ == "__main__":
    run(sys.argv[1])
