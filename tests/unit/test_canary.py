"""What the report of `scripts/canary` is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import Measure
from scripts.canary import TESTS
from scripts.canary_report import (
    Failure,
    Release,
    SuiteResults,
    channel_names,
    column_names,
    differences,
    read_junit,
    render,
    setting_paths,
)

ROOT = Path(__file__).parents[2]
DEFAULT = Release("2026.9.6", "24.1.0", 10**9, frozenset(), frozenset(), frozenset(), {})
PASSED = frozenset(f"test_{number}" for number in range(9))
TRIED = Release(
    "2026.9.7", "26.1.0", 10**9, frozenset(), frozenset(), frozenset(), {"transcripts": "renamed"}
)


def test_settings_are_named_by_their_paths() -> None:
    schema: dict[str, Any] = {"properties": {"gateway": {"properties": {"port": {}}}, "tools": {}}}
    assert list(setting_paths(schema)) == ["gateway", "gateway.port", "tools"]


def test_columns_are_named_with_their_tables() -> None:
    assert column_names([{"runs": ["id", "at"]}, None]) == {"runs", "runs.id", "runs.at"}


def test_channels_are_named_without_their_organization() -> None:
    assert channel_names(b'{"dependencies": {"@openclaw/slack": "2026.9.6"}}') == {"slack"}
    assert channel_names(None) == frozenset()


def test_tests_are_read_from_pytests_report() -> None:
    report = (
        '<testsuites><testsuite><testcase classname="tests.e2e.test_a" name="one"/>'
        '<testcase classname="tests.e2e.test_a" name="two[x]"><failure message="no&#10;more"/>'
        '</testcase><testcase classname="a" name="three"><skipped message="why"/></testcase>'
        "</testsuite></testsuites>"
    )
    failure = Failure("tests/e2e/test_a.py::two[x]", "no\nmore")
    assert read_junit(report) == SuiteResults(
        frozenset({"tests/e2e/test_a.py::one"}), (failure,), {"why": 1}
    )


def test_a_difference_names_what_is_new_and_what_is_gone() -> None:
    before, after = frozenset({"a.b", "b"}), frozenset({"b", "c", "c.d", "c.d.e"})
    lines = differences("Configuration", before, after)
    assert lines == ["## Configuration", "", "- New: `c`, with 2 below", "- Gone: `a.b`", ""]
    assert "No difference." in differences("Configuration", frozenset(), frozenset())


@pytest.mark.parametrize(
    ("failures", "verdict"),
    [
        ((), "**Nothing broke** in 9 tests."),
        ((Failure("a", "no", passed_alone=True),), "**Nothing broke** in 10 tests."),
        ((Failure("a", "no"), Failure("b", "no", passed_alone=True)), "**1 of 11 tests fail**"),
    ],
)
def test_a_release_is_judged_by_the_tests_that_fail_twice(
    failures: tuple[Failure, ...], verdict: str
) -> None:
    report = "\n".join(render(DEFAULT, TRIED, SuiteResults(PASSED, failures), "no time", {}))
    assert verdict in report
    assert "Not measured: no time." in report


def test_the_report_has_both_releases_side_by_side() -> None:
    boot = Measure("boot", "s", 9, 6, DEFAULT.version, rounds=3)
    lines = render(DEFAULT, TRIED, SuiteResults(PASSED), [boot], {"the tests": 90})
    assert "| Node | 24.1.0 | 26.1.0 |" in lines
    assert "| boot, of 3 | 6.00 s | 9.00 s | 1.50 |" in lines
    assert "- the tests: 1.5 minutes" in lines
    assert any(each.startswith("- transcripts: OpenClaw is asked") for each in lines)


def test_the_tests_it_runs_are_there() -> None:
    assert [each for each in TESTS if not (ROOT / each).exists()] == []
