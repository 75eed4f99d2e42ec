"""What the program says about OpenClaw's own checks of a copied home."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.openclaw.programs import check_upgrade

if TYPE_CHECKING:
    from pathlib import Path

CRASH = "health check threw: it has a legacy schema"


def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **by_command: Any) -> str:
    """A home with a database, and an OpenClaw that answers so."""
    state = tmp_path / ".openclaw" / check_upgrade.STATE
    state.parent.mkdir(parents=True)
    with closing(sqlite3.connect(state)) as database:
        database.execute("CREATE TABLE runs (id)")
    monkeypatch.setattr(check_upgrade, "COPY", str(tmp_path / "copy"))
    monkeypatch.setattr(check_upgrade, "openclaw", lambda command, *_: by_command[command])
    return str(tmp_path)


@pytest.mark.parametrize(
    ("status", "severity"),
    [("exact", "info"), ("migration-required", "info"), ("incompatible", "error")],
)
def test_only_a_database_that_is_not_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: str, severity: str
) -> None:
    home = answers(monkeypatch, tmp_path, database={"status": status}, doctor={"findings": []})
    (found,) = check_upgrade.run(home)
    assert (found["check"], found["severity"]) == ("database/state", severity)
    assert found["is_expected"] is (severity == "info")


def test_a_check_that_crashes_says_nothing_about_the_upgrade(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lint = [
        {"checkId": "core/a", "severity": "error", "message": CRASH},
        {"checkId": "core/b", "severity": "error", "message": "no gateway.mode"},
    ]
    home = answers(monkeypatch, tmp_path, database=None, doctor={"findings": lint})
    found = [
        (each["check"], each["severity"], each["is_expected"]) for each in check_upgrade.run(home)
    ]
    assert found == [
        ("database/state", "warning", False),
        ("core/a", "warning", True),
        ("core/b", "error", False),
    ]


def test_a_release_whose_doctor_gives_no_report_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = answers(monkeypatch, tmp_path, database={"status": "exact"}, doctor=None)
    assert [each["severity"] for each in check_upgrade.run(home)] == ["info", "warning"]
