"""Migrations: the tables they make are the tables the code reads, and no file is misread."""

from __future__ import annotations

import errno
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from chowder_local.core.domain import OrganizationId, Tier
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.secrets import SecretBox
from chowder_local.store import backups, schema
from chowder_local.store.database import Database
from chowder_local.store.keys import KeyQueries
from chowder_local.store.organizations import OrganizationQueries
from chowder_local.store.schema import MIGRATIONS, REVISION, prepare
from chowder_local.store.tables import METADATA

BOX = SecretBox(b"s" * 32)
CONFIG, SEALED = '{"a": ["é"]}', "openclaw_config_ciphertext"
REVISIONS = sorted(each.revision for each in ScriptDirectory(str(MIGRATIONS)).walk_revisions())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chowder.db"


def test_the_migrated_schema_is_the_one_of_the_tables(path: Path) -> None:
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


def test_the_code_knows_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [REVISION]


def test_a_current_file_is_opened_without_alembic(path: Path) -> None:
    prepare(path)
    program = (
        "import sys; from pathlib import Path; from chowder_local.store.schema import prepare;"
        f"prepare(Path({str(path)!r})); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_preparing_again_keeps_what_is_there(path: Path) -> None:
    prepare(path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT INTO meta VALUES ('a', 'b')")
    prepare(path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT * FROM meta").fetchall() == [("a", "b")]


def test_every_row_of_every_older_schema_comes_through_all_upgrades(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, list[dict[str, Any]]] = {}
    for revision in REVISIONS:
        monkeypatch.setattr(schema, "REVISION", revision)
        prepare(path, BOX.encrypt)
        # What was written under each older schema, in every table that it has, has to be there.
        assert {name: told(path, name, old) for name, old in kept.items()} == kept
        filled(path, revision)
        kept = {name: told(path, name) for name in tables(path)}
        assert all(kept.values())
    assert set(kept) == set(METADATA.tables)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert file.execute("PRAGMA foreign_key_check").fetchall() == []


async def test_what_the_first_schema_kept_is_read_by_todays_queries(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "REVISION", "0001")
    prepare(path)
    monkeypatch.undo()
    moment = "2026-05-04 03:02:01.000000"
    organization = ("org-1", "Kitchen", "crab", moment, moment)
    key = ("key-1", "org-1", "default", "chd_org_abcd", "digest", 1, 1, moment, None, None)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"INSERT INTO organization VALUES {organization}")
        file.execute("INSERT INTO api_key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", key)
    async with Database.open(path) as database:
        found = await KeyQueries(database).by_digest("digest")
        organization_now = await OrganizationQueries(database).get(OrganizationId("org-1"))
    assert found is not None
    assert (found.id, found.grants) == ("key-1", {})
    assert organization_now is not None
    assert (organization_now.name, organization_now.tier) == ("Kitchen", Tier.CRAB)


def test_an_upgrade_keeps_a_copy_of_what_was_there_and_says_where(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(path, BOX.encrypt)
    assert backups.taken(path) == []
    path.unlink()
    monkeypatch.setattr(schema, "REVISION", "0002")
    prepare(path, BOX.encrypt)
    # A new database is no upgrade.
    assert backups.taken(path) == []
    filled(path, "0002")
    before = {name: told(path, name) for name in tables(path)}
    monkeypatch.undo()
    prepare(path, BOX.encrypt)
    (backup,) = backups.taken(path)
    assert f"from schema 0002 to {REVISION}" in caplog.text
    assert str(backup) in caplog.text
    assert {name: told(backup, name) for name in tables(backup)} == before


def test_an_upgrade_leaves_no_configuration_in_clear_in_the_file_or_its_wal(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "REVISION", "0003")
    prepare(path)
    filled(path, "0003")
    planted = json.dumps({"channels": {"telegram": {"botToken": "PLANTED" * 2000}}})
    with closing(sqlite3.connect(path)) as file, file:
        # One that was changed before, so that there are pages which only its former text is in.
        file.execute("UPDATE instance SET openclaw_config = ?", [planted])
        file.execute("UPDATE instance SET openclaw_config = ?", ['{"botToken": "PLANTED"}'])
    monkeypatch.undo()
    with closing(sqlite3.connect(path)) as reader:
        # Who has the file open keeps its WAL, as a crash does.
        reader.execute("SELECT * FROM meta").fetchall()
        prepare(path, BOX.encrypt)
        (backup,) = backups.taken(path)
        files = {each.name: each.read_bytes() for each in path.parent.iterdir() if each != backup}
    assert set(files) == {"chowder.db", "chowder.db-wal", "chowder.db-shm"}
    assert not [name for name, content in files.items() if b"PLANTED" in content]
    (instance,) = told(path, "instance")
    assert instance["openclaw_config"] == '{"botToken": "PLANTED"}'
    # The copy is what the older version can read.
    assert b"PLANTED" in backup.read_bytes()
    later = backups.take(path, REVISION)
    assert b"PLANTED" not in later.read_bytes()


def test_a_crash_right_after_an_upgrade_leaves_the_rest_of_it_to_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(path: Path) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(schema, "REVISION", "0003")
    prepare(path)
    filled(path, "0003")
    with closing(sqlite3.connect(path)) as file, file:
        # As some builds of SQLite are.
        file.execute("PRAGMA secure_delete = OFF")
        file.execute(
            "UPDATE instance SET openclaw_config = ?", ['{"a": "%s"}' % ("PLANTED" * 9999)]
        )
        file.execute("UPDATE instance SET openclaw_config = '{}'")
    monkeypatch.undo()
    with monkeypatch.context() as patched:
        patched.setattr(schema, "_forget_what_was_replaced", crash)
        with pytest.raises(RuntimeError):
            prepare(path, BOX.encrypt)
    assert told(path, "alembic_version") == [{"version_num": REVISION}]
    assert b"PLANTED" in path.read_bytes()
    prepare(path, BOX.encrypt)
    assert b"PLANTED" not in path.read_bytes()


def test_a_file_with_something_to_encrypt_is_not_upgraded_without_a_key(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "REVISION", "0003")
    prepare(path)
    filled(path, "0003")
    before = told(path, "instance")
    monkeypatch.undo()
    with pytest.raises(TypeError):
        prepare(path)
    assert told(path, "alembic_version") == [{"version_num": "0003"}]
    assert told(path, "instance") == before


def test_without_room_for_a_copy_nothing_is_upgraded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, revision: str) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(schema, "REVISION", "0002")
    prepare(path)
    monkeypatch.undo()
    monkeypatch.setattr(backups, "take", full)
    with pytest.raises(DataDirUnusable, match=r"is full\. Free some space"):
        prepare(path)
    assert told(path, "alembic_version") == [{"version_num": "0002"}]


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    prepare(path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE of_tomorrow (id TEXT)")
        file.execute("UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    with pytest.raises(DataDirUnusable, match=r"newer chowder-local \(schema 9999") as refused:
        prepare(path)
    assert "Upgrade chowder-local" in str(refused.value)
    assert "There is no copy" in str(refused.value)
    assert path.read_bytes() == before


def test_whoever_goes_back_to_an_older_version_is_told_which_copy_to_put_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for revision in ("0001", "0002"):
        monkeypatch.setattr(schema, "REVISION", revision)
        prepare(path, BOX.encrypt)
        filled(path, revision)
    monkeypatch.undo()
    before = {name: told(path, name) for name in tables(path)}
    # Upgraded twice more, of which the second is unknown to us.
    prepare(path, BOX.encrypt)
    backups.take(path, REVISION)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
    (newest, older, _) = backups.taken(path)
    with pytest.raises(DataDirUnusable) as refused:
        prepare(path, BOX.encrypt)
    words = re.search(r"remove (\S+) and (\S+) if .* copy (\S+) over (\S+);", str(refused.value))
    assert words is not None
    assert words[3] == str(newest)
    # Just as it says, with what a crash may have left beside the file.
    Path(words[1]).write_bytes(b"of the newer file")
    Path(words[1]).unlink()
    Path(words[2]).unlink(missing_ok=True)
    shutil.copyfile(words[3], words[4])
    prepare(path, BOX.encrypt)
    assert told(path, "alembic_version") == [{"version_num": REVISION}]
    shutil.copyfile(older, path)
    prepare(path, BOX.encrypt)
    assert {name: told(path, name, old) for name, old in before.items()} == before


def tables(path: Path) -> list[str]:
    """The names of its tables, without Alembic's own."""
    with closing(sqlite3.connect(path)) as file:
        found = file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return [name for (name,) in found if name != "alembic_version"]


def told(path: Path, table: str, of: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """The rows of a table, oldest first; with `of`, only what those have members for.

    What is encrypted by now is told as it was before.
    """
    with closing(sqlite3.connect(path)) as file:
        file.row_factory = sqlite3.Row
        found = [dict(row) for row in file.execute(f"SELECT * FROM {table} ORDER BY rowid")]
    for row in found:
        if (sealed := row.pop(SEALED, None)) is not None:
            row["openclaw_config"] = BOX.decrypt(sealed)
    if of is None:
        return found
    return [{name: row[name] for name in of[0]} for row in found[: len(of)]]


def filled(path: Path, name: str) -> None:
    """Adds to each table of a database a row in which every column has a value."""
    values = {
        "INTEGER": 1,
        "BOOLEAN": 1,
        "BLOB": BOX.encrypt(CONFIG),
        "DATETIME": "2026-05-04 03:02:01.000000",
    }
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("PRAGMA foreign_keys = ON")
        file.execute("PRAGMA defer_foreign_keys = ON")
        for table in tables(path):
            columns = file.execute(f"PRAGMA table_info({table})").fetchall()
            row = [
                CONFIG if kind == "JSON" else values.get(kind, f"row of {name}")
                for _, _, kind, *_ in columns
            ]
            file.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE instance (mine TEXT)")
    with pytest.raises(DataDirUnusable, match="another program's database"):
        prepare(path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT name FROM sqlite_master").fetchall() == [("instance",)]


def test_a_migration_that_fails_in_the_middle_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic.operations import Operations

    real = Operations.create_index

    def fails_at_the_last(self: Operations, name: str, *args: object, **kwargs: object) -> None:
        if name == "ix_instance_status":
            raise RuntimeError("power cut")
        real(self, name, *args, **kwargs)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(Operations, "create_index", fails_at_the_last)
    with pytest.raises(RuntimeError):
        prepare(path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT name FROM sqlite_master").fetchall() == []
    monkeypatch.undo()
    prepare(path)


def test_a_version_table_without_a_version_is_an_empty_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    prepare(path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]
