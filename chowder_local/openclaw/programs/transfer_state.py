"""Replaces a running agent's conversations and files by those of another home.

Runs in the sandbox as the agent's user, with its home as argument. Each input line is answered by a
line of JSON: `ready`; `stage` returns the folder into which the other home must be unpacked;
`check` may come while the gateway still starts; `apply` replaces the state. State that the gateway
reads only when it starts is not applied: the answer is `done: false`, and nothing has changed.
`sync` answers once the state is on the disk.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sqlite3
import stat
import sys
import tempfile
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

AGENT = "agents/main/agent/openclaw-agent.sqlite"
STATE = "state/openclaw.sqlite"
BLANK = "/opt/openclaw/blank.sqlite"
"""The image's copy of a new agent's state database."""
BUSY_TIMEOUT_S = 20.0
CREATE_TIMEOUT_S = 2.0
"""How long to wait for a database; a gateway that has opened its conversations has created it."""

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
"""Entries of the home that OpenClaw reads only when it starts."""

MIRRORED = ("workspace", "media")
"""Folders whose former content is removed."""

COPIED = (
    "worker_session_placements",
    "session_state_events",
    "session_state_heads",
    "session_groups",
    "workspace_setup_state",
    "workspace_path_aliases",
    "workspace_generated_bootstrap_hashes",
    "channel_pairing_allow_entries",
    "channel_pairing_requests",
    "channel_ingress_events",
    "exec_approvals_config",
)
"""Tables that the gateway reads on demand."""

OF_CHANNELS = """substr(plugin_id, 1, instr(plugin_id || '-', '-') - 1) IN (
    'discord', 'googlechat', 'line', 'matrix', 'mattermost', 'msteams', 'nostr', 'signal', 'slack',
    'telegram', 'whatsapp'
)"""
"""Rows of plugins, such as `telegram-message-dispatch-dedupe`, that are read when their channel
begins, thus after a transfer: a warm sandbox has no channel."""

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
    "operator_approvals",
    "official_external_plugin_catalog_snapshots",
    "schema_meta",
    "skill_usage",
    "sqlite_sequence",
    "state_leases",
    "user_profile_identities",
    "user_profiles",
}
"""Tables that stay as they are in the sandbox."""

OF_LATER_RELEASES = {"exec_approvals_config", "operator_approvals"}
"""Of these tables, those that OpenClaw need not have."""

PLUGIN_STATE = "plugin_state_entries"
NAMED = {
    "cron_jobs": ("declaration_key", "enabled"),
    PLUGIN_STATE: ("plugin_id", "namespace", "entry_key"),
}
"""Key columns of tables whose rows OpenClaw keeps in memory, unless it creates them itself."""

DECLARED = {
    ("memory-core:memory-dreaming-promotion", 1),
    ("heartbeat:main", 0),
    ("skill-collection-review:main", 0),
    ("skill-collection-review:main", 1),
}
"""Rows of these tables that OpenClaw creates in every agent after some time."""

LOCKS = {("memory-core", "short-term-locks")}
"""Where processes note that they hold a lock. An ended one has none, even if its row is there: the
index of memories is written some five seconds after a message, and an agent may leave then."""


class Unfit(Exception):
    """The state can be applied only by a start of the gateway."""


class Agent:
    """An agent whose gateway keeps running while its state is replaced."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.state = os.path.join(home, ".openclaw")
        # On the same volume, so that files can be renamed into place.
        parent = os.path.join(self.state, "tmp")
        os.makedirs(parent, exist_ok=True)
        self.folder = tempfile.mkdtemp(dir=parent)
        self.staged = os.path.join(self.folder, "new")
        self.new = os.path.join(self.staged, ".openclaw")
        os.mkdir(self.staged)
        self.databases: dict[str, sqlite3.Connection] = {}
        self.aside_count = 0

    def close(self) -> None:
        """Syncs the databases to disk and deletes the temporary folder."""
        for path, database in self.databases.items():
            database.close()
            for name in (path, f"{path}-wal"):
                sync(os.path.join(self.state, name))
        shutil.rmtree(self.folder, ignore_errors=True)

    def open(self, timeout_s: float) -> None:
        """Opens the gateway's databases. Raises Unfit if one is not created within the timeout."""
        ends_s = time.monotonic() + timeout_s
        # The state database is opened last, because a gateway that starts needs it for itself.
        for name in [each for each in (AGENT, STATE) if each not in self.databases]:
            while (database := connect_if_created(os.path.join(self.state, name))) is None:
                if time.monotonic() >= ends_s:
                    raise Unfit("the gateway has not created its database")
                # The gateway does not signal that it has created the database.
                time.sleep(0.1)
            self.databases[name] = database

    def check(self) -> None:
        """Checks the staged home against a new agent's state, without the agent's own databases.

        Raises Unfit if the staged home cannot be applied.
        """
        self.check_files()
        if not os.path.exists(BLANK):
            return
        with (
            closing(sqlite3.connect(f"file:{BLANK}?immutable=1", uri=True)) as blank,
            closing(connect(self.of_its_release())) as theirs,
        ):
            if release(theirs) != release(blank):
                raise Unfit("it may be of another version of OpenClaw")
            self.attach_state(blank)

    def apply(self) -> None:
        """Replaces the agent's state by the staged home. Raises Unfit if it cannot be applied."""
        self.check_files()
        self.open(CREATE_TIMEOUT_S)
        has_state = self.attach_state(self.databases[STATE])
        if os.path.exists(path := os.path.join(self.new, AGENT)):
            with closing(connect(path)) as theirs:
                ours = self.databases[AGENT]
                check_version(ours, theirs)
                # SQLite's backup is atomic for the gateway, which has the database open.
                theirs.backup(ours)
        if has_state:
            copy_state(self.databases[STATE])
        self.take_files()

    def sync(self) -> None:
        """Waits until the home's file system is on the disk."""
        folder = os.open(self.home, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(folder):
                raise OSError(ctypes.get_errno(), "syncfs has failed")
        finally:
            os.close(folder)

    def check_files(self) -> None:
        names = AT_START & set(os.listdir(self.new))
        # OpenClaw 2026.8 gives each agent an empty folder of worktrees.
        if found := sorted(each for each in names if not is_empty(os.path.join(self.new, each))):
            raise Unfit(f"it has {found[0]}")
        if set(os.listdir(os.path.join(self.new, "agents"))) != {"main"}:
            raise Unfit("it has more than one agent")
        self.of_its_release()

    def of_its_release(self) -> str:
        """The path of a staged database, which tells the home's version of OpenClaw.

        An agent that has never been spoken with has no database of conversations; those of a warm
        sandbox are as empty. Raises Unfit if the home has no database.
        """
        for name in (AGENT, STATE):
            if os.path.exists(path := os.path.join(self.new, name)):
                return path
        raise Unfit("it has no database")

    def attach_state(self, database: sqlite3.Connection) -> bool:
        """Attaches the staged state database, if any, as `theirs`. Raises Unfit if it is unfit."""
        path = os.path.join(self.new, STATE)
        if not os.path.exists(path):
            return False
        database.execute("ATTACH ? AS theirs", (path,))
        check_version(database, database, "theirs")
        check_state(database)
        return True

    def take_files(self) -> None:
        for path in (AGENT, STATE):
            shared = os.path.join(self.new, os.path.dirname(path))
            for name in os.listdir(shared) if os.path.isdir(shared) else []:
                if ".sqlite" in name:
                    self.put_aside(os.path.join(shared, name))
        for name in MIRRORED:
            folder = os.path.join(self.state, name)
            for each in os.listdir(folder) if is_folder(folder) else []:
                self.put_aside(os.path.join(folder, each))
        self.merge(self.staged, self.home)

    def merge(self, new: str, old: str) -> None:
        for name in os.listdir(new):
            source, target = os.path.join(new, name), os.path.join(old, name)
            if is_folder(source) and is_folder(target):
                self.merge(source, target)
                continue
            if os.path.lexists(target):
                self.put_aside(target)
            os.rename(source, target)

    def put_aside(self, path: str) -> None:
        """Moves a file or folder away, which is faster than deleting many files."""
        self.aside_count += 1
        os.rename(path, os.path.join(self.folder, f"former-{self.aside_count}"))


def connect_if_created(path: str) -> sqlite3.Connection | None:
    if not os.path.exists(path):
        return None
    database = connect(path)
    if version(database) != (0,):
        return database
    database.close()
    return None


def connect(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    # For speed: `close` syncs to disk, and the gateway checkpoints the WAL when it writes.
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    return database


def check_version(ours: sqlite3.Connection, theirs: sqlite3.Connection, name: str = "main") -> None:
    if version(ours) != version(theirs, name):
        raise Unfit("it is of another version of OpenClaw")


def version(database: sqlite3.Connection, name: str = "main") -> Any:
    return database.execute(f"PRAGMA {name}.user_version").fetchone()


def release(database: sqlite3.Connection) -> Any:
    """The version of OpenClaw that created the database."""
    return database.execute(
        "SELECT app_version FROM schema_meta WHERE meta_key = 'primary'"
    ).fetchone()


def check_state(database: sqlite3.Connection) -> None:
    tables = database.execute(
        "SELECT name FROM theirs.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    for (table,) in tables.fetchall():
        if table in OF_THE_SANDBOX or table in COPIED:
            continue
        if table in NAMED:
            columns = ", ".join(NAMED[table])
            which = f"NOT {OF_CHANNELS}" if table == PLUGIN_STATE else "TRUE"
            theirs, ours = (
                set(database.execute(f"SELECT {columns} FROM {name}.{table} WHERE {which}"))  # noqa: S608 - our constants
                for name in ("theirs", "main")
            )
            if own := {row for row in theirs - ours - DECLARED if row[:2] not in LOCKS}:
                names = ", ".join(sorted({str(name)[:40] for name, *_ in own})[:3])
                raise Unfit(f"it has {table} of its own: {names}")
        elif database.execute(f'SELECT 1 FROM theirs."{table}" LIMIT 1').fetchone():  # noqa: S608 - a table's own name
            raise Unfit(f"it has {table}")


def copy_state(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    for table in (*COPIED, PLUGIN_STATE):
        query = "SELECT 1 FROM theirs.sqlite_master WHERE type = 'table' AND name = ?"
        if database.execute(query, (table,)).fetchone():
            which = OF_CHANNELS if table == PLUGIN_STATE else "TRUE"
            database.execute(f"DELETE FROM main.{table} WHERE {which}")  # noqa: S608 - ours
            rows = f"SELECT * FROM theirs.{table} WHERE {which}"  # noqa: S608 - ours
            database.execute(f"INSERT INTO main.{table} {rows}")
    database.execute("COMMIT")


def is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def is_empty(path: str) -> bool:
    return is_folder(path) and not os.listdir(path)


def sync(path: str) -> None:
    with suppress(FileNotFoundError), open(path, "rb") as file:
        os.fsync(file.fileno())


def outcome_of(action: Callable[[], None]) -> dict[str, Any]:
    """The answer after an action: `done`, or not done with a `reason`, or `error`."""
    try:
        action()
    except Unfit as unfit:
        return {"done": False, "reason": str(unfit)}
    except (OSError, sqlite3.Error) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"done": True}


def serve(home: str, requests: TextIO, answers: TextIO) -> None:
    """Answers requests until the input ends."""
    agent = None
    try:
        for line in requests:
            answer: dict[str, Any] = {}
            if line == "stage\n" and agent is None:
                agent = Agent(home)
                answer["staged"] = agent.staged
            elif line == "check\n" and agent is not None:
                answer = outcome_of(agent.check)
            elif line == "apply\n" and agent is not None:
                answer = outcome_of(agent.apply)
            elif line == "sync\n" and agent is not None:
                answer = outcome_of(agent.sync)
            print(json.dumps(answer), file=answers, flush=True)
            if line == "stage\n" and agent is not None:
                # Opened while the server unpacks; `apply` retries what cannot be opened yet.
                with suppress(Unfit, OSError, sqlite3.Error):
                    agent.open(0)
    finally:
        if agent is not None:
            agent.close()


if __name__ == "__main__":
    serve(sys.argv[1], sys.stdin, sys.stdout)
