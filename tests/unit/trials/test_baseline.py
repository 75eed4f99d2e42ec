"""What is significantly worse or better than an earlier run, and the file of a baseline."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import factorial, prod
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.trials.baseline import (
    ERROR_RATE,
    MEASURES,
    Measures,
    compare,
    read_baseline,
    write_baseline,
)
from chowder_local.trials.statistics import Plan, two_proportions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def measures(
    passed: int, counted: int, cost: float = 0.01, took_s: float = 1.0, needed: int = 1
) -> Measures:
    spread = [1 + each / 100 for each in range(passed)]
    return Measures(
        passed, counted, needed,
        {
            "cost_usd": [cost * each for each in spread],
            "tokens": [], "model_calls": [2.0] * passed, "turns": [1.0] * passed,
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
    better = compare({"a": measures(10, 20)}, {"a": measures(20, 20, cost=0.001)})
    assert {each.measure for each in better if each.is_better} == {"pass rate", "cost"}
    assert not [each for each in better if each.is_worse]


def test_single_runs_tell_nothing_and_other_tests_are_not_compared() -> None:
    changes = compare({"a": measures(1, 1), "b": measures(1, 1)}, {"a": measures(0, 1, cost=9.0)})
    assert {each.test for each in changes} == {"a"}
    assert not [each for each in changes if each.is_worse or each.is_better]


def test_a_run_that_passed_only_just_has_a_pass_rate_that_may_have_been_luck() -> None:
    for passed, is_worse in ((20, True), (18, False)):
        before = {"a": measures(passed, 20, needed=18)}
        rate = compare(before, {"a": measures(8, 20, needed=18)})[0]
        assert (rate.measure, rate.is_worse) == ("pass rate", is_worse)


def test_a_measure_of_two_values_is_compared_whatever_the_numbers_of_trials() -> None:
    few, many = measures(10, 10), measures(20, 20)
    dear = replace(many, values={**many.values, "model_calls": [3.0] * 20})
    changes = compare({"a": few}, {"a": dear})
    assert [each.measure for each in changes if each.is_worse] == ["model calls"]


def ends(plan: Plan) -> Counter[tuple[int, int]]:
    """In how many orders the trials end with so many that passed and failed."""
    going, ended = Counter({(0, 0): 1}), Counter[tuple[int, int]]()
    while going:
        after = Counter[tuple[int, int]]()
        for (passed, failed), orders in going.items():
            for each in ((passed + 1, failed), (passed, failed + 1)):
                after[each] += orders
        going = Counter({each: n for each, n in after.items() if plan.verdict(*each) is None})
        ended.update({each: n for each, n in after.items() if each not in going})
    return ended


@pytest.mark.parametrize("earlier", [(12, 0.5), (20, 0.7), (20, 0.9), (50, 0.8)])
@pytest.mark.parametrize("later", [(12, 0.5), (20, 0.9), (60, 0.8)])
@pytest.mark.parametrize("is_chosen", [True, False])
def test_an_unchanged_pass_rate_is_called_worse_in_one_of_twenty_runs_at_most(
    earlier: tuple[int, float], later: tuple[int, float], is_chosen: bool
) -> None:
    # Exactly, of all ways to end. A baseline may have been chosen because it passed.
    plans = [Plan(*each, is_whole=True) for each in (earlier, later)]
    before, now = map(ends, plans)
    if is_chosen:
        before = Counter({each: n for each, n in before.items() if each[0] >= plans[0].needed})
    measured = [
        {each: measures(each[0], sum(each), needed=plan.needed) for each in some}
        for plan, some in zip(plans, (before, now), strict=True)
    ]
    worse = [
        (a, b)
        for a, was in measured[0].items()
        for b, is_now in measured[1].items()
        if two_proportions(was.passed, was.counted, is_now.passed, is_now.counted, was.same_verdict)
        <= ERROR_RATE
    ]
    for rate in (each / 50 for each in range(1, 50)):
        likely, next_ = (
            {each: n * rate ** each[0] * (1 - rate) ** each[1] for each, n in some.items()}
            for some in (before, now)
        )
        alarms = sum(likely[a] * next_[b] for a, b in worse)
        assert alarms / sum(likely.values()) <= ERROR_RATE


def test_failures_that_cost_more_do_not_make_a_later_run_worse_than_one_that_passed() -> None:
    # Exactly: trials pass cheaply or dearly, or fail dearest of all.
    trials, needed = 9, 7
    counts = [(a, b, trials - a - b) for a in range(trials + 1) for b in range(trials + 1 - a)]
    found = {
        (cheap, dear, failed): Measures(
            cheap + dear, trials, needed,
            {**dict.fromkeys(MEASURES, ()), "cost_usd": [1.0] * cheap + [2.0] * dear},
        )
        for cheap, dear, failed in counts
    }  # fmt: skip
    chosen = [each for each in counts if found[each].passed >= needed]
    worse = [
        (a, b)
        for a in chosen
        for b in counts
        if any(each.is_worse for each in compare({"a": found[a]}, {"a": found[b]}))
    ]
    for passing in (0.3, 0.5, 0.7, 0.8, 0.9):
        for dear_share in (0.1, 0.3, 0.5, 0.7):
            rates = passing * (1 - dear_share), passing * dear_share, 1 - passing
            likely = {each: multinomial(each, rates) for each in counts}
            alarms = sum(likely[a] * likely[b] for a, b in worse)
            assert alarms / sum(likely[each] for each in chosen) <= ERROR_RATE


def multinomial(counts: Sequence[int], rates: Sequence[float]) -> float:
    orders = factorial(sum(counts)) / prod(map(factorial, counts))
    return orders * prod(rate**count for rate, count in zip(rates, counts, strict=True))


def test_a_baseline_is_read_as_it_was_written_and_what_is_none_is_refused(tmp_path: Path) -> None:
    tests = {"test_a.py::test_b[c]": measures(19, 20), "test_a.py::test_a": measures(1, 1)}
    file = tmp_path / "new" / "baseline.json"
    write_baseline(file, tests)
    assert read_baseline(file) == tests
    assert len(file.read_text().splitlines()) == 5 + len(tests)
    for content in ("{}", "[]", "no", '{"format": 3, "tests": {}}'):
        file.write_text(content)
        with pytest.raises(SettingsInvalid, match="is no baseline of tests"):
            read_baseline(file)
    file.write_text('{"format": 1, "tests": {}}')
    with pytest.raises(SettingsInvalid, match="an earlier version"):
        read_baseline(file)
