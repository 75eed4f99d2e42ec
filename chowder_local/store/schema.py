"""Creates the database file, or upgrades its schema after a backup."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from chowder_local.core.data_dir import sync
from chowder_local.core.data_dir_layout import DataDir
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.store.sqlite import BUSY_TIMEOUT_S, translated_errors, unwritable

if TYPE_CHECKING:
    from collections.abc import Collection

log = logging.getLogger(__name__)

KEPT_BACKUPS = 3
"""The number of the newest backups that are kept; they cover some releases."""

_TIME = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"\.backup-(?P<revision>[^-]+)-(?P<time>[^-]+Z)$")


def back_up(path: Path, revision: str) -> Path:
    """Copies the database, whose schema has the revision, and removes the oldest backups.

    No other process may write meanwhile. Raises sqlite3.Error or OSError if the copy fails, which
    leaves no new backup.
    """
    created_at = datetime.now(UTC).strftime(_TIME)
    backup = path.with_name(f"{path.name}.backup-{revision}-{created_at}")
    part = backup.with_name(f"{backup.name}.part")
    for leftover in path.parent.glob(f"{path.name}.backup-*Z.part*"):
        # A killed process left it.
        leftover.unlink()
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # SQLite's backup API, because the latest commits may be in the WAL only.
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            # The backup must be a single file, without a WAL.
            copy.execute("PRAGMA journal_mode = DELETE")
        sync(part)
        part.replace(backup)
        sync(path.parent)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    for old in find(path)[KEPT_BACKUPS:]:
        old.unlink()
    return backup


def find(path: Path, revisions: Collection[str] | None = None) -> list[Path]:
    """The backups of a database, newest first; with `revisions`, only those of one of them."""
    backups = []
    for each in path.parent.glob(f"{path.name}.backup-*"):
        name = _NAME.search(each.name)
        if name and (revisions is None or name["revision"] in revisions):
            backups.append((name["time"], each))
    return [each for _, each in sorted(backups, reverse=True)]


REVISION = "v0011"
"""The newest revision; a file that has it is opened without importing Alembic."""

MIGRATIONS = Path(__file__).parent / "migrations"

_HAS_LEFTOVERS = 1


def prepare(path: Path) -> None:
    """Makes or upgrades the file, private to this user; blocks. Makes a backup before an upgrade.

    Raises DataDirUnusable if it cannot be read or written, or if the file is another program's, a
    newer version's, or from before the first release; or if the directory was in use, and the file
    is missing or empty.
    """
    files = DataDir(path.parent)
    if files.has_lost_database:
        # SQLite would remove the WAL of an empty file.
        raise _lost(path)
    with translated_errors(path):
        _make_private(path)
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as file:
            # A power cut must not undo a migration.
            file.execute("PRAGMA synchronous = FULL")
            file.execute("PRAGMA journal_mode = WAL")
            # Fails now, and not at the first request, if the file is read-only.
            file.execute("BEGIN IMMEDIATE")
            current = _revision(path, file)
            file.execute("ROLLBACK")
        if current is None and files.store_file.exists():
            raise _lost(path)
        if current != REVISION:
            _upgrade(path, current)
        _erase_leftovers(path)


def _make_private(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its -wal and -shm files the mode of the database.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    except OSError as failed:
        raise unwritable(path, failed) from failed


def _revision(path: Path, file: sqlite3.Connection) -> str | None:
    tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
    if "alembic_version" in tables:
        row = file.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])
    if tables:
        raise DataDirUnusable(
            f"{path} is another program's database. Choose another directory with --data-dir."
        )
    return None


def _upgrade(path: Path, current: str | None) -> None:
    # Importing Alembic takes long, and is seldom needed.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import URL, create_engine, event
    from sqlalchemy.pool import NullPool

    scripts = ScriptDirectory(str(MIGRATIONS))
    revisions = {script.revision for script in scripts.walk_revisions()}
    if current is not None:
        if current not in revisions:
            raise _unknown_revision(path, current, revisions)
        _back_up(path, current)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_S},
    )
    # All migrations are one transaction: a crash leaves the old schema.
    event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    with (
        engine.begin() as connection,
        EnvironmentContext(
            Config(), scripts, fn=lambda revision, _: scripts._upgrade_revs(REVISION, revision)
        ) as environment,
    ):
        environment.configure(connection=connection, transactional_ddl=False)
        environment.run_migrations()
        if current is not None:
            connection.exec_driver_sql(f"PRAGMA user_version = {_HAS_LEFTOVERS}")
    engine.dispose()


def _erase_leftovers(path: Path) -> None:
    """Erases content that an upgrade has removed or encrypted from the file and its WAL.

    SQLite keeps it in unused pages, even with secure_delete.
    """
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as file:
        # The upgrade's transaction sets the mark, so the next start resumes after a crash.
        (mark,) = file.execute("PRAGMA user_version").fetchone()
        if mark == _HAS_LEFTOVERS:
            file.execute("VACUUM")
            file.execute("PRAGMA user_version = 0")
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _back_up(path: Path, current: str) -> None:
    try:
        backup = back_up(path, current)
    except OSError as failed:
        raise unwritable(path, failed) from failed
    log.warning(
        "upgrading the database from schema %s to %s; the backup from before is %s",
        current,
        REVISION,
        backup,
    )


def _lost(path: Path) -> DataDirUnusable:
    """The error for a directory that a server has used and that has no data of it any more."""
    remedy = f"Put a copy of {path.name} back"
    if backups := find(path):
        remedy += (
            f", such as {backups[0]}; the next start removes agents that were created since then, "
            "with their files"
        )
    return DataDirUnusable(
        f"{path} is missing or empty, but agents of {path.parent} may be left: 'chowder-local "
        f"doctor' lists what there is of them. Nothing was changed. {remedy}. Or remove all that "
        f"is left with: {_reset(path)} – or choose another directory with --data-dir."
    )


def _reset(path: Path) -> str:
    return shlex.join(["chowder-local", "reset", "--data-dir", str(path.parent)])


def _unknown_revision(path: Path, current: str, revisions: Collection[str]) -> DataDirUnusable:
    """The error for a revision that this version does not have; downgrades would lose data."""
    if current.isdecimal():
        # Revisions were numbers before the first release.
        return DataDirUnusable(
            f"{path} was written by a chowder-local from before its first release (schema "
            f"{current}), which cannot be upgraded; nothing was changed. Remove its agents and all "
            f"its data with: {_reset(path)} – or choose another directory with --data-dir."
        )
    remedy = "There is no backup from before the upgrade here"
    if usable := find(path, revisions):
        remedy = (
            f"To go back to the state before the upgrade, remove {path}-wal and {path}-shm if they "
            f"exist, and copy {usable[0]} over {path}; the next start removes agents that were "
            "created since then, with their files"
        )
    return DataDirUnusable(
        f"{path} was written by a newer chowder-local (schema {current}, this one knows "
        f"{REVISION}); nothing was changed. Upgrade chowder-local, or choose another directory "
        f"with --data-dir. {remedy}."
    )
