"""Replaces a running agent's conversations and files by those of another home.

Runs in the sandbox as the agent's user, with its home as argument, and then `alone` if nothing else
is of that user there. Each input line is answered by a line of JSON: `ready`; `stage` returns the
folder into which the other home must be unpacked;
`check` may come while the gateway still starts; `apply` replaces the state. State that the gateway
reads only when it starts is not applied: the answer is `done: false`, and nothing has changed.
`sync` answers once the state is on the disk. `clear` replaces the state by that of a new agent, and
leaves nothing of the former one on the disk or, if it is alone, in the kernel; `check own` tells
whether it could.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import json
import os
import shutil
import signal
import sqlite3
import stat
import sys
import tempfile
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

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

RECORDS = ("audit_events", "diagnostic_events", "operator_approvals", "skill_usage")
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

LOGS = "/tmp/openclaw"  # noqa: S108 - in the sandbox
"""Where the gateway appends to files, in a folder that it makes only when it starts."""

NOT_OF_FILES = {"proc", "devpts", "mqueue"}
"""File systems whose entries show something else: programs, terminals and queues."""

IPC_RMID = 0
FIRST_PROCESS = 1
"""The container's own, which has nothing of the agent's in memory."""

ATTEMPTS = 20


class Unfit(Exception):
    """The state can be applied only by a start of the gateway."""


class Agent:
    """An agent whose gateway keeps running while its state is replaced."""

    def __init__(self, home: str, *, is_alone: bool = False) -> None:
        """`is_alone`: all of its user's on the machine is the agent's, and `clear` removes it."""
        self.home = home
        self.is_alone = is_alone
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
            copy_state(state, RECORDS)
            state.execute("DETACH theirs")
            for database in self.databases.values():
                wipe(database)
            self.clear_files()
            self.take_files()
        empty(self.folder)
        if self.is_alone:
            clear_kernel(self.home)

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
        for name in {*above, "tmp"}:
            empty(os.path.join(self.state, name), {*kept, self.folder})

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
    for _ in range(ATTEMPTS):
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


def empty(folder: str, kept: Collection[str] = ()) -> None:
    """Removes what the agent's user has in a folder, as `leftovers` lists it.

    Raises Unfit if it does not stay empty, OSError if something cannot be removed.
    """
    for _ in range(ATTEMPTS):
        if not (found := leftovers(folder, kept)):
            return
        for path in reversed(found):
            try:
                (os.rmdir if is_folder(path) else os.unlink)(path)
            except OSError as error:
                # The gateway has removed it, or has written into it.
                if error.errno not in {errno.ENOENT, errno.ENOTEMPTY}:
                    raise
    raise Unfit(f"{folder} cannot be emptied")


def leftovers(folder: str, kept: Collection[str]) -> list[str]:
    """What the agent's user has in a folder's file system, each folder before its entries.

    `kept` is left out, and so is what a program holds open, with the folders above.
    """
    found, needed = [], set[str]()
    device = os.lstat(folder).st_dev
    for parent, names, files in os.walk(folder, onerror=refuse):
        entries, names[:] = [*names, *files], []
        for name in entries:
            path = os.path.join(parent, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            # The engine's own mark in /tmp is root's.
            if status.st_uid == 0 != os.getuid() or status.st_dev != device:
                continue
            if path in kept or (stat.S_ISREG(status.st_mode) and is_open(path)):
                while (path := os.path.dirname(path)) != folder:
                    needed.add(path)
                continue
            found.append(path)
            if stat.S_ISDIR(status.st_mode):
                os.chmod(path, stat.S_IRWXU)
                names.append(name)
    return [each for each in found if each not in needed]


def refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def is_open(path: str) -> bool:
    """Whether another program holds a file open: then it cannot be leased for writing.

    Whoever may not look into a program's descriptors learns that, too.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except (FileNotFoundError, PermissionError):
        return False
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def clear_kernel(home: str) -> None:
    """Removes what the agent's user has outside of its home.

    Raises Unfit if something is left, or the memory of another program can be read.
    """
    mounts = list(writable_mounts())
    for folder, kind in mounts:
        if folder != home and os.path.isdir(folder) and kind not in NOT_OF_FILES:
            empty(folder)
    os.makedirs(LOGS, stat.S_IRWXU, exist_ok=True)
    queues = [folder for folder, kind in mounts if kind == "mqueue"]
    if not queues:
        raise Unfit("its message queues cannot be listed")
    for folder in queues:
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
    remove_ipc()
    for _ in range(ATTEMPTS):
        if not any(map(is_readable, glob.glob("/proc/[0-9]*"))):
            return
        # A program of the server's ends, of which nothing tells here.
        time.sleep(0.1)
    raise Unfit("the memory of its programs can be read")


def writable_mounts() -> Iterator[tuple[str, str]]:
    """Where file systems are mounted that can be written to, and of which kind they are."""
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        for line in lines:
            mount, _, source = line.partition(" - ")
            folder, options = mount.split()[4:6]
            kind, _, more = source.split()[:3]
            if "ro" not in (*options.split(","), *more.split(",")):
                yield folder.encode().decode("unicode_escape"), kind


def remove_ipc() -> None:
    """Removes System V's shared memory, queues and semaphores."""
    system = ctypes.CDLL(None, use_errno=True)
    for kind in ("shm", "msg", "sem"):
        with open(f"/proc/sysvipc/{kind}", encoding="utf-8") as lines:
            _, *rows = lines
        for row in rows:
            number = int(row.split()[1])
            arguments = (number, 0, IPC_RMID) if kind == "sem" else (number, IPC_RMID, 0)
            if getattr(system, f"{kind}ctl")(*arguments):
                raise OSError(ctypes.get_errno(), f"{kind} {number} cannot be removed")


def is_readable(process: str) -> bool:
    """Whether the memory of another program, of which this is the folder in /proc, can be read."""
    if os.path.basename(process) in {str(FIRST_PROCESS), str(os.getpid())}:
        return False
    try:
        with open(f"{process}/cmdline", "rb") as command, open(f"{process}/mem", "rb"):
            # One that has ended has none, but is listed until it is waited for.
            return command.read(1) != b""
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


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


def serve(home: str, requests: TextIO, answers: TextIO, *, is_alone: bool = False) -> None:
    """Answers requests until the input ends."""
    agent = None
    try:
        for line in requests:
            answer: dict[str, Any] = {}
            if line == "stage\n" and agent is None:
                agent = Agent(home, is_alone=is_alone)
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
    # Sent if another program opens a file at the moment of `is_open`; it would end this one.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    serve(sys.argv[1], sys.stdin, sys.stdout, is_alone="alone" in sys.argv[2:])
