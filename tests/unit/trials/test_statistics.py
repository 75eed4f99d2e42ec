"""What trials say about a pass rate, against figures of the literature and simulated verdicts."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from chowder_local.trials.statistics import FIRST_LOOK, Plan, Verdict, two_proportions, wilson

Z_95 = 1.959963984540054
SIMULATED = 1_000
DEVIATIONS = 4.0


def test_the_interval_is_wilsons() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    assert wilson(81, 263, Z_95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148, Z_95) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20, Z_95) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(1, 29, Z_95) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson(20, 20, Z_95)[1] == 1
    assert wilson(0, 0, Z_95) == (0, 1)


def simulated(plan: Plan, failure_rate: float, random: Random) -> tuple[Verdict, int, int]:
    passed = failed = 0
    while (verdict := plan.verdict(passed, failed)) is None:
        has_failed = random.random() < failure_rate
        passed, failed = passed + (not has_failed), failed + has_failed
    return verdict, passed, failed


@pytest.mark.parametrize("plan", [Plan(20, 0.9), Plan(100, 0.9), Plan(200, 0.8)])
@pytest.mark.parametrize("failure_rate", [0.02, 0.1, 0.3])
def test_verdicts_come_as_often_as_the_exact_rates_say(plan: Plan, failure_rate: float) -> None:
    random = Random(f"{plan.trials} {failure_rate}")
    ends = [simulated(plan, failure_rate, random) for _ in range(SIMULATED)]
    rates = plan.error_rates(1 - failure_rate)
    sides = [plan.side(passed, failed) for _, passed, failed in ends]
    for expected, found in (
        (rates.passed, [verdict is Verdict.PASSED for verdict, *_ in ends]),
        (rates.proved, [each is Verdict.PASSED for each in sides]),
        (rates.disproved, [each is Verdict.FAILED for each in sides]),
    ):
        deviation = (expected * (1 - expected) / SIMULATED) ** 0.5
        assert abs(sum(found) / SIMULATED - expected) <= DEVIATIONS * deviation + 1e-9
    mean = sum(passed + failed for _, passed, failed in ends) / SIMULATED
    assert mean == pytest.approx(rates.trials, rel=0.05)


@pytest.mark.parametrize("trials", [10, 20, 50, 200])
@pytest.mark.parametrize("at_least", [0.5, 0.8, 0.9, 0.99])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_looks_after_every_trial_are_wrong_no_oftener_than_stated(
    trials: int, at_least: float, confidence: float
) -> None:
    rates = Plan(trials, at_least, confidence).error_rates(at_least)
    assert max(rates.proved, rates.disproved) <= 1 - confidence


def test_what_is_left_ends_the_trials_if_it_cannot_change_the_share() -> None:
    plan = Plan(20, 0.9)
    assert plan.verdict(17, 2) is None
    assert plan.verdict(18, 0) is Verdict.PASSED
    assert plan.verdict(0, 3) is Verdict.FAILED
    assert Plan(10, 1.0).verdict(5, 1) is Verdict.FAILED


def test_trials_without_an_outcome_leave_the_test_undecided_only_if_they_could_change_it() -> None:
    plan = Plan(20, 0.9)
    assert plan.verdict(17, 2, 1) is Verdict.UNDECIDED
    assert plan.verdict(16, 0, 3) is None
    assert plan.verdict(18, 1, 1) is Verdict.PASSED
    assert plan.verdict(16, 3, 1) is Verdict.FAILED


def test_a_few_trials_decide_nothing_by_their_interval() -> None:
    plan = Plan(1000, 0.5)
    assert plan.verdict(0, FIRST_LOOK - 1) is None
    assert plan.verdict(0, FIRST_LOOK) is Verdict.FAILED


def test_the_number_that_proves_a_rate_proves_it_and_one_fewer_does_not() -> None:
    plan = Plan(100, 0.9)
    number = plan.trials_to_prove(1.0)
    assert number is not None
    assert plan.interval(number, number)[0] >= 0.9 > plan.interval(number - 1, number - 1)[0]
    assert plan.trials_to_prove(0.9) is None


@pytest.mark.parametrize(
    "members", [(0, 0.9), (1001, 0.9), (20, 0), (20, 1.1), (20, 0.9, 1.0), (20, 0.9, 0.2)]
)
def test_a_plan_out_of_range_is_refused(members: tuple[int, float]) -> None:
    with pytest.raises(ValueError, match="should be"):
        Plan(*members)


def test_a_share_that_fell_is_told_from_chance_by_fishers_exact_test() -> None:
    # Fisher's tea: four of four cups right, where none are expected to be.
    assert two_proportions(4, 4, 0, 4) == pytest.approx(1 / 70)
    assert two_proportions(18, 20, 18, 20) > 0.5
    assert two_proportions(19, 20, 10, 20) == pytest.approx(0.00167, abs=5e-6)
    assert two_proportions(1, 1, 0, 1) == 0.5


def test_the_guide_has_the_exact_rates() -> None:
    page = (Path(__file__).parents[3] / "docs/guides/trials.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) == 9
    for trials, failure_rate, figures in rows:
        rates = Plan(int(trials), 0.9).error_rates(1 - float(failure_rate))
        expected = (
            f"{rates.passed:.3f} | {rates.proved:.3f} | {rates.disproved:.3f} | {rates.trials:.1f}"
        )
        assert figures == expected
