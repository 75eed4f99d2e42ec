"""What is significantly worse or better than an earlier run, and the file of a baseline."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.trials.baseline import Measures, compare, read_baseline, write_baseline

if TYPE_CHECKING:
    from pathlib import Path


def measures(passed: int, counted: int, cost: float = 0.01, took_s: float = 1.0) -> Measures:
    spread = [1 + each / 100 for each in range(counted)]
    return Measures(
        passed,
        counted,
        {
            "cost_usd": [cost * each for each in spread],
            "tokens": [], "model_calls": [2.0] * counted, "turns": [1.0] * counted,
            "took_s": [took_s * each for each in spread],
        },
    )  # fmt: skip


def test_a_pass_rate_that_fell_far_is_worse_and_one_that_fell_by_chance_is_not() -> None:
    before = {"a": measures(19, 20), "b": measures(19, 20)}
    changes = compare(before, {"a": measures(8, 20), "b": measures(17, 20)})
    worse = [(each.test, each.measure, each.is_failure) for each in changes if each.is_worse]
    assert worse == [("a", "pass rate", True)]
    assert "a: pass rate worse: 0.95 before, 0.4 now (p = " in str(changes[0])


def test_what_rose_is_worse_and_a_duration_fails_nothing() -> None:
    changes = compare({"a": measures(20, 20)}, {"a": measures(20, 20, cost=0.03, took_s=9.0)})
    found = {each.measure: each.is_failure for each in changes if each.is_worse}
    assert found == {"cost": True, "duration": False}
    better = compare({"a": measures(4, 20)}, {"a": measures(20, 20, cost=0.001)})
    assert {each.measure for each in better if each.is_better} == {"pass rate", "cost"}
    assert not [each for each in better if each.is_worse]


def test_single_runs_tell_nothing_and_other_tests_are_not_compared() -> None:
    changes = compare({"a": measures(1, 1), "b": measures(1, 1)}, {"a": measures(0, 1, cost=9.0)})
    assert {each.test for each in changes} == {"a"}
    assert not [each for each in changes if each.is_worse or each.is_better]


def test_runs_in_which_nothing_changed_are_seldom_called_worse() -> None:
    random = Random(7)

    def run() -> dict[str, Measures]:
        return {
            name: Measures(
                sum(random.random() < 0.8 for _ in range(20)), 20,
                {each: [random.random() for _ in range(20)] for each in measures(1, 1).values},
            )
            for name in "abcde"
        }  # fmt: skip

    runs = 200
    worse = sum(any(each.is_worse for each in compare(run(), run())) for _ in range(runs))
    assert worse / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_a_baseline_is_read_as_it_was_written_and_what_is_none_is_refused(tmp_path: Path) -> None:
    tests = {"test_a.py::test_b[c]": measures(19, 20), "test_a.py::test_a": measures(1, 1)}
    file = tmp_path / "new" / "baseline.json"
    write_baseline(file, tests)
    assert read_baseline(file) == tests
    assert len(file.read_text().splitlines()) == 5 + len(tests)
    for content in ("{}", "[]", "no", '{"format": 2, "tests": {}}'):
        file.write_text(content)
        with pytest.raises(SettingsInvalid, match="is no baseline of tests"):
            read_baseline(file)
