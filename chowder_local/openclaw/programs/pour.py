"""Gives a running agent another one's conversations and files, from an archive of its home.

Runs in the sandbox as the agent's user: a line of JSON (`home`, `size`) comes in, then the archive;
a line of JSON goes out. What the gateway would only read when it starts is not poured: the answer
is then that it does not fit, and nothing has changed.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import stat
import sys
import tarfile
import tempfile
import time
from contextlib import closing, suppress
from typing import IO, Any

AGENT = "agents/main/agent/openclaw-agent.sqlite"
STATE = "state/openclaw.sqlite"
BUSY_TIMEOUT_S = 20.0
MAKING_S = 15.0

AT_START = {
    ".env",
    "browser",
    "credentials",
    "cron",
    "delivery-queue",
    "devices",
    "discord",
    "exec-approvals.json",
    "extensions",
    "fleet",
    "flows",
    "github-profiles",
    "hooks",
    "identity",
    "imessage",
    "mpm",
    "node-host",
    "npm",
    "plugin-state",
    "plugins",
    "push",
    "sandbox",
    "sandboxes",
    "secret-egress-proxy",
    "sessions",
    "settings",
    "skill-workshop",
    "skills",
    "subagents",
    "tasks",
    "telegram",
    "worktrees",
}
"""What OpenClaw reads when it starts, and then keeps in mind."""

MIRRORED = ("workspace", "media")
"""Folders in which what the agent itself had is not to be left."""

COPIED = (
    "worker_session_placements",
    "session_state_events",
    "session_state_heads",
    "session_groups",
    "workspace_setup_state",
    "workspace_path_aliases",
    "workspace_generated_bootstrap_hashes",
)
"""Tables that the gateway reads when it needs them."""

OF_THE_SANDBOX = {
    "agent_database_leases",
    "agent_databases",
    "audit_events",
    "audit_identity_keys",
    "config_health_entries",
    "config_machine_state",
    "config_revision_keys",
    "device_identities",
    "diagnostic_events",
    "gateway_boot_lifecycle",
    "gateway_restart_handoff",
    "gateway_restart_intent",
    "gateway_restart_sentinel",
    "migration_runs",
    "migration_sources",
    "official_external_plugin_catalog_snapshots",
    "schema_meta",
    "skill_usage",
    "sqlite_sequence",
    "state_leases",
    "user_profile_identities",
    "user_profiles",
}
"""Tables of which every sandbox has its own."""

NAMED = {
    "cron_jobs": ("declaration_key", "enabled"),
    "plugin_state_entries": ("plugin_id", "entry_key"),
}
"""Tables that OpenClaw fills itself; with other rows than those, they are kept in its mind."""

DECLARED = {
    ("memory-core:memory-dreaming-promotion", 1),
    ("heartbeat:main", 0),
    ("skill-collection-review:main", 1),
}
"""Jobs that every agent gets of OpenClaw, if it has run for long enough."""


class Unfit(Exception):
    """Only a start would bring this agent to that state."""


class Bounded(io.RawIOBase):
    """As many bytes of a stream as were promised, and then its end."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, count: int = -1) -> bytes:
        """The next ones."""
        chunk = self._stream.read(min(count, self._left))
        self._left -= len(chunk)
        return chunk


def check(old: str, new: str) -> None:
    """Raises Unfit."""
    if found := sorted(AT_START & set(os.listdir(new))):
        raise Unfit(f"it has {found[0]}")
    if set(os.listdir(os.path.join(new, "agents"))) != {"main"}:
        raise Unfit("it has more than one agent")
    for name in (AGENT, STATE):
        path = os.path.join(new, name)
        if not os.path.exists(path):
            if name == AGENT:
                raise Unfit("it has no conversations")
            continue
        wait_for(os.path.join(old, name))
        with closing(opened(path)) as theirs, closing(opened(os.path.join(old, name))) as ours:
            if version(theirs) != version(ours):
                raise Unfit("it is of another version of OpenClaw")
            if name == STATE:
                check_state(theirs, ours)


def wait_for(path: str) -> None:
    """Until a gateway that has only just started has made its database. Raises Unfit."""
    until_s = time.monotonic() + MAKING_S
    while time.monotonic() < until_s:
        if os.path.exists(path):
            with closing(opened(path)) as made:
                if version(made) != (0,):
                    return
        time.sleep(0.1)
    raise Unfit("its database is not made")


def check_state(theirs: sqlite3.Connection, ours: sqlite3.Connection) -> None:
    tables = theirs.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    for (table,) in tables.fetchall():
        if table in OF_THE_SANDBOX or table in COPIED:
            continue
        if table in NAMED:
            columns = ", ".join(NAMED[table])
            rows = [set(each.execute(f"SELECT {columns} FROM {table}")) for each in (theirs, ours)]  # noqa: S608 - ours
            if rows[0] - rows[1] - DECLARED:
                raise Unfit(f"it has {table} of its own")
        elif theirs.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone():  # noqa: S608 - a table's own name
            raise Unfit(f"it has {table}")


def pour(old: str, new: str) -> None:
    """Puts the new home's content into the old one, of a gateway that goes on meanwhile."""
    with (
        closing(opened(os.path.join(new, AGENT))) as theirs,
        closing(opened(os.path.join(old, AGENT))) as ours,
    ):
        # In SQLite's own way, so that whoever has it open sees all of it at once, or nothing.
        theirs.backup(ours)
    if os.path.exists(os.path.join(new, STATE)):
        copy_state(os.path.join(new, STATE), os.path.join(old, STATE))
    for path in (AGENT, STATE):
        shared = os.path.join(new, os.path.dirname(path))
        for name in os.listdir(shared) if os.path.isdir(shared) else []:
            if ".sqlite" in name:
                os.unlink(os.path.join(shared, name))
    for name in MIRRORED:
        if is_folder(os.path.join(old, name)):
            empty(os.path.join(old, name))
    merge(new, old)


def copy_state(new: str, old: str) -> None:
    with closing(opened(old)) as ours:
        ours.isolation_level = None
        ours.execute("ATTACH ? AS theirs", (new,))
        ours.execute("BEGIN IMMEDIATE")
        for table in COPIED:
            known = "SELECT 1 FROM theirs.sqlite_master WHERE type = 'table' AND name = ?"
            if ours.execute(known, (table,)).fetchone():
                ours.execute(f"DELETE FROM main.{table}")  # noqa: S608 - ours
                ours.execute(f"INSERT INTO main.{table} SELECT * FROM theirs.{table}")  # noqa: S608 - ours
        ours.execute("COMMIT")


def merge(new: str, old: str) -> None:
    """Moves all that is in one folder into another."""
    for name in os.listdir(new):
        source, target = os.path.join(new, name), os.path.join(old, name)
        if is_folder(source) and is_folder(target):
            merge(source, target)
        else:
            remove(target)
            os.rename(source, target)


def empty(folder: str) -> None:
    for name in os.listdir(folder):
        remove(os.path.join(folder, name))


def remove(path: str) -> None:
    if is_folder(path):
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)


def is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def opened(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)


def version(database: sqlite3.Connection) -> Any:
    return database.execute("PRAGMA user_version").fetchone()


def run(home: str, size: int, stream: IO[bytes]) -> dict[str, Any]:
    """What is to be answered."""
    state = os.path.join(home, ".openclaw")
    # On the same volume, so that nothing is copied twice.
    os.makedirs(os.path.join(state, "tmp"), exist_ok=True)
    staged = tempfile.mkdtemp(dir=os.path.join(state, "tmp"))
    try:
        with tarfile.open(fileobj=Bounded(stream, size), mode="r|") as tar:
            if hasattr(tarfile, "fully_trusted_filter"):
                # It was looked through before, and the agent could do to itself what it could.
                tar.extraction_filter = tarfile.fully_trusted_filter
            tar.extractall(staged)  # noqa: S202 - see above
        new = os.path.join(staged, ".openclaw")
        check(state, new)
        pour(state, new)
        shutil.rmtree(new)
        merge(staged, home)
    except Unfit as unfit:
        return {"poured": False, "words": str(unfit)}
    except (OSError, sqlite3.Error, tarfile.TarError, KeyError) as failure:
        return {"error": f"{type(failure).__name__}: {failure}"}
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return {"poured": True}


if __name__ == "__main__":
    # Nothing comes if what was to be copied could not be.
    if line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        print(json.dumps(run(asked["home"], asked["size"], sys.stdin.buffer)), flush=True)  # noqa: T201 - its answer
