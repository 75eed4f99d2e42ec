"""Replaces a running agent's conversations and files by those of another home.

Runs in the sandbox as the agent's user, with its home as argument, and then the other folders in
which the agent may write. Each input line is answered by a
line of JSON: `ready`; `stage` returns the folder into which the other home must be unpacked;
`check` may come while the gateway still starts; `apply` replaces the state. State that the gateway
reads only when it starts is not applied: the answer is `done: false`, and nothing has changed.
`sync` answers once the state is on the disk. `clear` replaces the state by that of a new agent, and
leaves nothing of the former one on the disk; `check own` tells whether it could.
"""

from __future__ import annotations

import ctypes
import glob
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
    from collections.abc import Callable, Iterator, Sequence

AGENT = "agents/main/agent/openclaw-agent.sqlite"
STATE = "state/openclaw.sqlite"
INDEXING = f"{AGENT}.reindex-lock.sqlite"
"""Locked by OpenClaw while it reads files and conversations, and writes its index of them."""
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

LOGS = ("audit_events", "diagnostic_events", "operator_approvals", "skill_usage")
"""Of these tables, those that tell what an agent did."""

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
    # As chowder_local/openclaw/jobs.py has it.
    ("chowder-local:clock", 0),
}
"""Rows of these tables that OpenClaw creates in every agent after some time, or this server."""

LOCKS = {("memory-core", "short-term-locks")}
"""Where processes note that they hold a lock. An ended one has none, even if its row is there: the
index of memories is written some five seconds after a message, and an agent may leave then."""

KEPT = {"openclaw.json", "chowder-ca.pem", "chowder-clock", "tmp"}
"""What belongs to the sandbox in an agent's state folder."""

CHECKPOINT_ATTEMPTS = 20


class Unfit(Exception):
    """The state can be applied only by a start of the gateway."""


class Agent:
    """An agent whose gateway keeps running while its state is replaced."""

    def __init__(self, home: str, temporary: Sequence[str] = ()) -> None:
        self.home = home
        self.temporary = temporary
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

    def check_own(self) -> None:
        """Checks the agent's own state, with which its gateway has started.

        Raises Unfit if the gateway keeps something of it in memory, which `clear` could not remove.
        """
        check_names(self.state)
        if not os.path.exists(BLANK):
            raise Unfit("the image has no blank database")
        with closing(sqlite3.connect(f"file:{BLANK}?immutable=1", uri=True)) as blank:
            blank.execute("ATTACH ? AS theirs", (os.path.join(self.state, STATE),))
            check_version(blank, blank, "theirs")
            check_rows(blank, "theirs", "main", "FALSE")

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

    def clear(self) -> None:
        """Replaces the agent's state by the staged home, that of a new agent, and nothing else.

        Raises Unfit if the gateway may have state in memory that is not replaced.
        """
        check_names(self.state)
        self.open(CREATE_TIMEOUT_S)
        state = self.databases[STATE]
        if not self.attach_state(state):
            raise Unfit("the new home has no database")
        check_rows(state, "main", "theirs", "FALSE")
        with closing(connect(os.path.join(self.state, INDEXING))) as indexing:
            # What has been read of the former home is written before it is cleared.
            indexing.execute("BEGIN EXCLUSIVE")
            with closing(connect(os.path.join(self.new, AGENT))) as theirs:
                check_version(self.databases[AGENT], theirs)
                theirs.backup(self.databases[AGENT])
            copy_state(state, LOGS)
            state.execute("DETACH theirs")
            for database in self.databases.values():
                wipe(database)
            self.clear_files()
            self.take_files()
        for name in os.listdir(self.folder):
            # The gateway may still write where it had a folder open.
            shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)

    def clear_files(self) -> None:
        """Removes all files of the home but the databases, and what the gateway holds open."""
        for name in set(os.listdir(self.home)) - {".openclaw"}:
            self.put_aside(os.path.join(self.home, name))
        shared = {os.path.dirname(each) for each in (AGENT, STATE)}
        above = {each.partition("/")[0] for each in shared}
        for name in set(os.listdir(self.state)) - above - KEPT:
            self.put_aside(os.path.join(self.state, name))
        databases = [os.path.join(self.state, each) for each in (AGENT, STATE)]
        kept = {f"{each}{suffix}" for each in databases for suffix in ("", "-wal", "-shm")}
        kept |= {*open_files()}
        for folder in (
            *(os.path.join(self.state, each) for each in {*above, "tmp"}),
            *self.temporary,
        ):
            for parent, folders, names in os.walk(folder):
                if parent == self.folder:
                    folders.clear()
                    continue
                for path in {os.path.join(parent, each) for each in names} - kept:
                    # The engine's own mark in /tmp is root's.
                    if os.lstat(path).st_uid == os.getuid():
                        os.unlink(path)

    def sync(self) -> None:
        """Waits until the home's file system is on the disk."""
        folder = os.open(self.home, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(folder):
                raise OSError(ctypes.get_errno(), "syncfs has failed")
        finally:
            os.close(folder)

    def check_files(self) -> None:
        check_names(self.new)
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
        check_rows(database, "theirs", "main", OF_CHANNELS)
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


def check_names(state: str) -> None:
    """Raises Unfit if a state folder has what OpenClaw reads only when it starts."""
    names = AT_START & set(os.listdir(state))
    # OpenClaw 2026.8 gives each agent an empty folder of worktrees.
    if found := sorted(each for each in names if not is_empty(os.path.join(state, each))):
        raise Unfit(f"it has {found[0]}")
    if set(os.listdir(os.path.join(state, "agents"))) != {"main"}:
        raise Unfit("it has more than one agent")


def check_rows(database: sqlite3.Connection, checked: str, other: str, read_late: str) -> None:
    """Raises Unfit if a state database has rows that the other lacks and a gateway keeps in memory.

    `read_late` selects the rows of plugins that it does not keep.
    """
    tables = database.execute(f"SELECT name FROM {checked}.sqlite_master WHERE type = 'table'")  # noqa: S608 - ours
    for (table,) in tables.fetchall():
        if table in OF_THE_SANDBOX or table in COPIED or table.startswith("sqlite_"):
            continue
        if table in NAMED:
            columns = ", ".join(NAMED[table])
            which = f"NOT ({read_late})" if table == PLUGIN_STATE else "TRUE"
            rows, others = (
                set(database.execute(f"SELECT {columns} FROM {name}.{table} WHERE {which}"))  # noqa: S608 - our constants
                for name in (checked, other)
            )
            if own := {row for row in rows - others - DECLARED if row[:2] not in LOCKS}:
                names = ", ".join(sorted({str(name)[:40] for name, *_ in own})[:3])
                raise Unfit(f"it has {table} of its own: {names}")
        elif database.execute(f'SELECT 1 FROM {checked}."{table}" LIMIT 1').fetchone():  # noqa: S608 - a table's own name
            raise Unfit(f"it has {table}")


def copy_state(database: sqlite3.Connection, emptied: tuple[str, ...] = ()) -> None:
    """Replaces the rows that the gateway reads on demand, and removes those of other tables."""
    database.execute("BEGIN IMMEDIATE")
    for table in (*COPIED, PLUGIN_STATE):
        if has_table(database, "theirs", table):
            which = OF_CHANNELS if table == PLUGIN_STATE else "TRUE"
            database.execute(f"DELETE FROM main.{table} WHERE {which}")  # noqa: S608 - ours
            rows = f"SELECT * FROM theirs.{table} WHERE {which}"  # noqa: S608 - ours
            database.execute(f"INSERT INTO main.{table} {rows}")
    for table in emptied:
        if has_table(database, "main", table):
            database.execute(f"DELETE FROM main.{table}")  # noqa: S608 - ours
    database.execute("COMMIT")


def has_table(database: sqlite3.Connection, name: str, table: str) -> bool:
    query = f"SELECT 1 FROM {name}.sqlite_master WHERE type = 'table' AND name = ?"  # noqa: S608 - ours
    return database.execute(query, (table,)).fetchone() is not None


def wipe(database: sqlite3.Connection) -> None:
    """Removes what deleted rows have left in a database's pages and in its log."""
    database.execute("VACUUM")
    for _ in range(CHECKPOINT_ATTEMPTS):
        is_blocked, *_ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not is_blocked:
            return
        # A reader of the gateway's is in the way, and gives no sign when it ends.
        time.sleep(0.1)
    raise Unfit("the gateway reads its database")


def is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def is_empty(path: str) -> bool:
    return is_folder(path) and not os.listdir(path)


def open_files() -> Iterator[str]:
    """The paths that the agent's programs hold open."""
    for folder in glob.iglob("/proc/[0-9]*/fd"):
        with suppress(OSError):
            for each in os.scandir(folder):
                with suppress(OSError):
                    yield os.readlink(each)


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


def serve(home: str, requests: TextIO, answers: TextIO, temporary: Sequence[str] = ()) -> None:
    """Answers requests until the input ends."""
    agent = None
    try:
        for line in requests:
            answer: dict[str, Any] = {}
            if line == "stage\n" and agent is None:
                agent = Agent(home, temporary)
                answer["staged"] = agent.staged
            elif line == "check\n" and agent is not None:
                answer = outcome_of(agent.check)
            elif line == "check own\n" and agent is not None:
                answer = outcome_of(agent.check_own)
            elif line == "apply\n" and agent is not None:
                answer = outcome_of(agent.apply)
            elif line == "clear\n" and agent is not None:
                answer = outcome_of(agent.clear)
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
    serve(sys.argv[1], sys.stdin, sys.stdout, sys.argv[2:])
