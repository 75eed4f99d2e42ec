"""The program that reads jobs from OpenClaw's database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from chowder_local.openclaw.programs import jobs as program

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = (
    "CREATE TABLE cron_jobs (store_key TEXT NOT NULL, job_id TEXT NOT NULL, declaration_key TEXT,"
    " name TEXT NOT NULL, enabled INTEGER NOT NULL, job_json TEXT NOT NULL,"
    " sort_order INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (store_key, job_id)) STRICT"
)
"""As OpenClaw 2026.9.6 makes it, without what is not read."""


def test_jobs_are_read_without_openclaws_own(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with closing(sqlite3.connect(tmp_path / "state/openclaw.sqlite")) as database, database:
        database.execute(SCHEMA)
        database.execute("INSERT INTO cron_jobs VALUES ('k', 'a', NULL, 'rep', 0, '{\"x\": 1}', 0)")
        database.execute("INSERT INTO cron_jobs VALUES ('k', 'b', 'own', 'dream', 1, '{}', 1)")
    assert program.main({"state_dir": str(tmp_path)}) == {
        "jobs": [{"x": 1, "id": "a", "name": "rep", "enabled": False}]
    }


def test_a_database_of_another_kind_has_none_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/openclaw.sqlite").touch()
    answer = program.main({"state_dir": str(tmp_path)})
    assert answer == {"jobs": [], "problem": "no such table: cron_jobs"}


def test_an_agent_that_was_never_ready_has_none(tmp_path: Path) -> None:
    assert program.main({"state_dir": str(tmp_path)}) == {"jobs": []}
