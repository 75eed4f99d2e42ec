"""Migrations: their result, backups, crashes, and files of other versions."""

from __future__ import annotations

import errno
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from chowder_local.core.errors.process import DataDirFull, DataDirUnusable
from chowder_local.features.feature import own_features
from chowder_local.store import schema
from chowder_local.store.schema import MIGRATIONS, REVISION, prepare
from chowder_local.store.tables import METADATA

if TYPE_CHECKING:
    from collections.abc import Callable

NEXT_REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "v9001"
down_revision = "v0011"


def upgrade():
    op.add_column("meta", sa.Column("note", sa.String(), nullable=True))
    op.execute("UPDATE meta SET value = 'encrypted' WHERE value LIKE '%PLANTED%'")
    op.execute("UPDATE organization SET tier = 'whale'")
"""


@pytest.fixture(autouse=True)
def tables_of_features() -> None:
    """Those of features are known once they are imported."""
    own_features()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chowder.db"


@pytest.fixture
def next_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Adds a revision, and returns its file."""

    def add() -> Path:
        migrations = Path(shutil.copytree(MIGRATIONS, tmp_path / "code" / "migrations"))
        revision = migrations / "versions" / "v9001_next.py"
        revision.write_text(NEXT_REVISION)
        monkeypatch.setattr(schema, "MIGRATIONS", migrations)
        monkeypatch.setattr(schema, "REVISION", "v9001")
        return revision

    return add


def test_the_migrated_schema_equals_that_of_the_tables(path: Path) -> None:
    prepare(path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        described = inspect(connection)
        for table in METADATA.sorted_tables:
            migrated = described.get_pk_constraint(table.name)
            assert migrated["constrained_columns"] == [c.name for c in table.primary_key]
            assert migrated["name"] == table.primary_key.name
            unique = {c["name"] for c in described.get_unique_constraints(table.name)}
            named = {str(c.name) for c in table.constraints}
            assert unique <= named
            assert {c["name"] for c in described.get_foreign_keys(table.name)} <= named
    engine.dispose()


def test_the_revision_of_the_code_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [REVISION]


def test_a_current_file_is_opened_without_alembic(path: Path) -> None:
    prepare(path)
    program = (
        "import sys; from pathlib import Path; from chowder_local.store.schema import prepare;"
        f"prepare(Path({str(path)!r})); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_preparing_again_keeps_the_content(path: Path) -> None:
    prepare(path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT INTO meta VALUES ('a', 'b')")
    prepare(path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT * FROM meta").fetchall() == [("a", "b")]


def test_an_upgrade_keeps_every_row(path: Path, next_revision: Callable[[], Path]) -> None:
    prepare(path)
    fill(path, "first")
    before = {name: rows_of(path, name) for name in tables(path)}
    assert set(before) == set(METADATA.tables)
    assert all(before.values())
    next_revision()
    prepare(path)
    after = {name: rows_of(path, name) for name in tables(path)}
    (owner,) = before["organization"]
    (meta,) = before["meta"]
    changed = {"organization": [{**owner, "tier": "whale"}], "meta": [{**meta, "note": None}]}
    assert after == before | changed
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert file.execute("PRAGMA foreign_key_check").fetchall() == []


def test_instances_of_the_first_schema_may_hibernate(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "REVISION", "v0001")
        prepare(path)
    fill(path, "first")
    (before,) = rows_of(path, "instance")
    prepare(path)
    (after,) = rows_of(path, "instance")
    assert after | before == after
    assert after["may_hibernate"] == 1


def test_an_upgrade_erases_the_content_of_deleted_instances_only(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "REVISION", "v0002")
        prepare(path)
    for name in ("living", "deleted"):
        fill(path, name)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE instance SET status = 'running' WHERE id = 'row of living'")
        file.execute("UPDATE instance SET status = 'terminated' WHERE id = 'row of deleted'")
    before = {name: rows_of(path, name) for name in tables(path)}
    prepare(path)
    erased = {"session", "key_grant", "conversation_history", "idempotent_answer"}
    for name, (living, deleted) in before.items():
        if name == "instance":
            gone = ("openclaw_config_ciphertext", "error_message", "origin_snapshot_id")
            deleted |= dict.fromkeys(gone)
        assert rows_of(path, name) == [living] if name in erased else [living, deleted], name


def test_an_upgrade_makes_a_backup_and_logs_its_path(
    path: Path, next_revision: Callable[[], Path], caplog: pytest.LogCaptureFixture
) -> None:
    prepare(path)
    # Creating a database is not an upgrade.
    assert schema.find(path) == []
    fill(path, "first")
    before = {name: rows_of(path, name) for name in tables(path)}
    next_revision()
    prepare(path)
    (backup,) = schema.find(path)
    assert "from schema v0011 to v9001" in caplog.text
    assert str(backup) in caplog.text
    assert {name: rows_of(backup, name) for name in tables(backup)} == before


def test_an_upgrade_erases_replaced_content_from_the_file_and_its_wal(
    path: Path, next_revision: Callable[[], Path]
) -> None:
    prepare(path)
    with closing(sqlite3.connect(path)) as file, file:
        # The update leaves pages that have the former text only.
        file.execute("INSERT INTO meta VALUES ('a', ?)", ["PLANTED" * 2000])
        file.execute("UPDATE meta SET value = 'PLANTED'")
    next_revision()
    with closing(sqlite3.connect(path)) as reader:
        # An open reader keeps the WAL, like a crash.
        reader.execute("SELECT * FROM meta").fetchall()
        prepare(path)
        (backup,) = schema.find(path)
        beside = [each for each in path.parent.iterdir() if each.is_file() and each != backup]
        files = {each.name: each.read_bytes() for each in beside}
    assert set(files) == {"chowder.db", "chowder.db-wal", "chowder.db-shm"}
    assert not [name for name, content in files.items() if b"PLANTED" in content]
    assert rows_of(path, "meta") == [{"name": "a", "value": "encrypted", "note": None}]
    # The backup has the content before the upgrade.
    assert b"PLANTED" in backup.read_bytes()
    later = schema.back_up(path, schema.REVISION)
    assert b"PLANTED" not in later.read_bytes()


def test_after_a_crash_the_next_start_completes_an_upgrade(
    path: Path, next_revision: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(path: Path) -> None:
        raise RuntimeError("power cut")

    prepare(path)
    with closing(sqlite3.connect(path)) as file, file:
        # Some builds of SQLite have this default.
        file.execute("PRAGMA secure_delete = OFF")
        file.execute("INSERT INTO meta VALUES ('a', ?)", ["PLANTED" * 9999])
        file.execute("UPDATE meta SET value = 'PLANTED'")
    next_revision()
    with monkeypatch.context() as patched:
        patched.setattr(schema, "_erase_leftovers", crash)
        with pytest.raises(RuntimeError):
            prepare(path)
    assert rows_of(path, "alembic_version") == [{"version_num": "v9001"}]
    assert b"PLANTED" in path.read_bytes()
    prepare(path)
    assert b"PLANTED" not in path.read_bytes()


def test_without_space_for_a_backup_nothing_is_upgraded(
    path: Path, next_revision: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, revision: str) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    prepare(path)
    next_revision()
    monkeypatch.setattr(schema, "back_up", full)
    with pytest.raises(DataDirFull, match=r"is full\. Free some space"):
        prepare(path)
    assert rows_of(path, "alembic_version") == [{"version_num": REVISION}]


def test_a_newer_schema_is_refused_and_unchanged(path: Path) -> None:
    prepare(path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE of_tomorrow (id TEXT)")
        file.execute("UPDATE alembic_version SET version_num = 'v9999'")
    before = path.read_bytes()
    with pytest.raises(DataDirUnusable, match=r"newer chowder-local \(schema v9999") as refused:
        prepare(path)
    assert "Upgrade chowder-local" in str(refused.value)
    assert "There is no backup" in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("revision", ["0001", "0011"])
def test_a_schema_from_before_the_first_release_is_refused_and_unchanged(
    tmp_path: Path, revision: str
) -> None:
    path = tmp_path / "my data" / "chowder.db"
    prepare(path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = ?", [revision])
    before = path.read_bytes()
    with pytest.raises(DataDirUnusable, match=rf"first release \(schema {revision}\)") as refused:
        prepare(path)
    assert f"chowder-local reset --data-dir '{path.parent}'" in str(refused.value)
    assert path.read_bytes() == before
    assert schema.find(path) == []


def test_the_error_for_a_newer_schema_names_the_backup_to_restore(
    path: Path, next_revision: Callable[[], Path]
) -> None:
    prepare(path)
    fill(path, "first")
    next_revision()
    before = rows_of(path, "instance")
    # The second of two upgrades has an unknown revision.
    prepare(path)
    schema.back_up(path, "v9001")
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = 'v9999'")
    (newest, older) = schema.find(path)
    with pytest.raises(DataDirUnusable) as refused:
        prepare(path)
    paths = re.search(r"remove (\S+) and (\S+) if .* copy (\S+) over (\S+);", str(refused.value))
    assert paths is not None
    assert paths[3] == str(newest)
    # As the message says, with a WAL that a crash may have left.
    Path(paths[1]).write_bytes(b"of the newer file")
    Path(paths[1]).unlink()
    Path(paths[2]).unlink(missing_ok=True)
    shutil.copyfile(paths[3], paths[4])
    prepare(path)
    assert rows_of(path, "alembic_version") == [{"version_num": "v9001"}]
    shutil.copyfile(older, path)
    prepare(path)
    assert rows_of(path, "instance") == before


def tables(path: Path) -> list[str]:
    """The names of the tables, without Alembic's."""
    with closing(sqlite3.connect(path)) as file:
        found = file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return [name for (name,) in found if name != "alembic_version"]


def rows_of(path: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table, oldest first."""
    with closing(sqlite3.connect(path)) as file:
        file.row_factory = sqlite3.Row
        return [dict(row) for row in file.execute(f"SELECT * FROM {table} ORDER BY rowid")]


def fill(path: Path, name: str) -> None:
    """Adds a row with a value in every column to each table."""
    values = {
        "INTEGER": 1,
        "BOOLEAN": 1,
        "BLOB": b"ciphertext",
        "DATETIME": "2026-05-04 03:02:01.000000",
        "JSON": '{"a": ["é"]}',
    }
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("PRAGMA foreign_keys = ON")
        file.execute("PRAGMA defer_foreign_keys = ON")
        for table in tables(path):
            columns = file.execute(f"PRAGMA table_info({table})").fetchall()
            row = [values.get(kind, f"row of {name}") for _, _, kind, *_ in columns]
            file.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


def test_a_database_of_another_program_is_refused_and_unchanged(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE instance (mine TEXT)")
    with pytest.raises(DataDirUnusable, match="another program's database"):
        prepare(path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT name FROM sqlite_master").fetchall() == [("instance",)]


def test_a_migration_that_fails_changes_nothing(
    path: Path, next_revision: Callable[[], Path]
) -> None:
    revision = next_revision()
    whole = revision.read_text()
    revision.write_text(f"{whole}    raise RuntimeError('power cut')\n")
    with pytest.raises(RuntimeError):
        prepare(path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT name FROM sqlite_master").fetchall() == []
    revision.write_text(whole)
    prepare(path)


def test_a_version_table_without_a_version_counts_as_an_empty_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    prepare(path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]


@pytest.mark.parametrize("what", ["missing", "empty", "without tables"])
def test_a_directory_that_was_in_use_does_not_begin_anew_without_its_database(
    path: Path, what: str
) -> None:
    prepare(path)
    path.with_name("store.id").write_text("0123456789ab")
    prepare(path)
    backup = schema.back_up(path, REVISION)
    path.unlink()
    if what == "empty":
        path.touch()
    if what == "without tables":
        with closing(sqlite3.connect(path)) as file:
            file.execute("PRAGMA journal_mode = WAL")
    wal = path.with_name("chowder.db-wal")
    wal.write_bytes(b"the latest commits")
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(DataDirUnusable, match=r"missing or empty.*Nothing was changed") as refused:
        prepare(path)
    assert f"such as {backup};" in str(refused.value)
    assert f"chowder-local reset --data-dir {path.parent}" in str(refused.value)
    if what != "without tables":
        assert (path.read_bytes() if path.exists() else None) == before
        assert wal.read_bytes() == b"the latest commits"
    shutil.copyfile(backup, path)
    wal.unlink(missing_ok=True)
    prepare(path)
