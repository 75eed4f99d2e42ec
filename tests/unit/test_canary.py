"""What the report of `scripts/canary` is made of."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from scripts.canary import Failure, differences, failures, setting_paths, table_columns

if TYPE_CHECKING:
    from pathlib import Path


def test_settings_are_named_by_their_paths() -> None:
    schema: dict[str, Any] = {"properties": {"gateway": {"properties": {"port": {}}}, "tools": {}}}
    assert list(setting_paths(schema)) == ["gateway", "gateway.port", "tools"]


def test_columns_are_named_with_their_tables(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a")) as database:
        database.execute("CREATE TABLE runs (id, at)")
    assert table_columns((tmp_path / "a").read_bytes()) == {"runs.id", "runs.at"}


def test_failed_tests_are_read_from_pytests_report() -> None:
    report = (
        '<testsuites><testsuite><testcase classname="a" name="one"/>'
        '<testcase classname="a" name="two"><failure message="no&#10;more"/></testcase>'
        "</testsuite></testsuites>"
    )
    assert failures(report) == [Failure("a::two", "no")]


def test_a_difference_names_what_is_new_and_what_is_gone() -> None:
    lines = differences("Configuration", frozenset({"a", "b"}), frozenset({"b", "c"}))
    assert lines == ["## Configuration", "", "- New: `c`", "- Gone: `a`", ""]
    assert "No difference." in differences("Configuration", frozenset(), frozenset())
