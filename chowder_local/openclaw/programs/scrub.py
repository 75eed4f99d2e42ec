"""Takes OpenClaw's own log of runs out of an agent's databases, before they leave the machine.

It has each run's configuration, with the environment that was set in it and the relay's address.
Runs in a container of its own, because the databases are an agent's: nobody else should read them.
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
    """What may be one, by its name; links are not followed."""
    for folder, _, names in os.walk(os.path.join(home, ".openclaw", "agents")):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".sqlite") and not os.path.islink(path) and os.path.getsize(path):
                yield path


def scrub(path: str) -> None:
    """Leaves nothing of the log, neither in pages that are free now nor in the WAL."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        # Nothing that is written in it is to be run.
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
