"""Migrations: the tables they make are the tables the code reads, and no file is misread."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from chowder_local.errors.process import DataDirUnusable
from chowder_local.store import schema
from chowder_local.store.schema import MIGRATIONS, REVISION, prepare
from chowder_local.store.tables import METADATA

if TYPE_CHECKING:
    from pathlib import Path


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


def test_an_older_schema_is_brought_up_and_keeps_what_is_there(
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
    prepare(path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT * FROM organization").fetchall() == [
            (*organization, None, None)
        ]
        assert file.execute("SELECT * FROM api_key").fetchall() == [key]
        assert file.execute("SELECT * FROM key_grant").fetchall() == []
        assert file.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    prepare(path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DataDirUnusable, match=r"newer chowder-local \(schema 9999") as told:
        prepare(path)
    assert "Upgrade chowder-local" in str(told.value)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


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
