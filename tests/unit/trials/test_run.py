"""How trials are run: in which order they count, when they end, and what the report says."""

from __future__ import annotations

from threading import Barrier, Event
from typing import TYPE_CHECKING

import pytest

from chowder_local.trials.run import (
    Outcome,
    TrialResult,
    how_many_at_once,
    run_trials,
    trial_of,
)
from chowder_local.trials.spending import Spending
from chowder_local.trials.statistics import Plan, Verdict

if TYPE_CHECKING:
    from chowder_local.trials.run import Trial

WAIT_S = 60


def ends(trial: Trial, outcome: Outcome, *, is_last: bool = False) -> TrialResult:
    spent = Spending(0.25, tokens=10, model_calls=2, turns=1)
    reason = "" if outcome is Outcome.PASSED else f"reason {trial.number}"
    return TrialResult(trial.number, trial.seed, outcome, reason, (), spent, is_last=is_last)


def test_trials_end_when_the_rest_cannot_change_the_verdict() -> None:
    report = run_trials(Plan(20, 0.9), 7, 1, lambda trial: ends(trial, Outcome.PASSED))
    assert (report.verdict, report.passed, report.uncounted) == (Verdict.PASSED, 18, 0)
    assert report.spent == Spending(4.5, 180, 36, 18)


def test_trials_that_a_baseline_compares_are_all_run_and_their_share_decides() -> None:
    plan = Plan(20, 0.9, is_whole=True)
    report = run_trials(plan, 7, 1, lambda trial: ends(trial, Outcome.PASSED))
    assert (report.verdict, report.passed) == (Verdict.PASSED, 20)
    few = run_trials(plan, 7, 1, lambda trial: ends(trial, Outcome.FAILED))
    assert (few.verdict, few.failed) == (Verdict.FAILED, 20)
    # A budget of all ends them, and what has passed by then is enough.
    most = run_trials(
        plan, 7, 1, lambda trial: ends(trial, Outcome.PASSED, is_last=trial.number == 18)
    )
    assert (most.verdict, most.counted) == (Verdict.PASSED, 18)


def test_quick_failures_do_not_count_before_slow_passes() -> None:
    both_run, is_second_over = Barrier(2), Event()

    def make(trial: Trial) -> TrialResult:
        if trial.number == 1:
            both_run.wait(WAIT_S)
            assert is_second_over.wait(WAIT_S)
            return ends(trial, Outcome.PASSED)
        if trial.number == 2:
            both_run.wait(WAIT_S)
            is_second_over.set()
        return ends(trial, Outcome.FAILED)

    report = run_trials(Plan(4, 0.75), 7, 2, make)
    assert [each.number for each in report.results] == [1, 2, 3]
    assert [each.outcome for each in report.results] == ["passed", "failed", "failed"]
    assert report.verdict is Verdict.FAILED


def test_seeds_follow_from_the_runs_and_the_number_and_give_the_same_random_numbers() -> None:
    drawn = [trial_of(7, 2).random.random() for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert len({trial_of(seed, number).seed for seed in (7, 8) for number in (1, 2)}) == 4


def test_a_budget_of_all_ends_the_trials_and_one_of_an_agent_only_its_own() -> None:
    def make(trial: Trial) -> TrialResult:
        is_spent = trial.number == 3
        return ends(trial, Outcome.UNDECIDED if is_spent else Outcome.PASSED, is_last=is_spent)

    report = run_trials(Plan(20, 0.9), 7, 1, make)
    assert (report.verdict, report.passed, report.undecided) == (Verdict.UNDECIDED, 2, 1)

    def make_own(trial: Trial) -> TrialResult:
        return ends(trial, Outcome.UNDECIDED if trial.number == 3 else Outcome.PASSED)

    own = run_trials(Plan(20, 0.9), 7, 1, make_own)
    assert (own.verdict, own.passed, own.undecided) == (Verdict.PASSED, 18, 1)


def test_what_a_trial_raises_ends_the_run() -> None:
    def make(_: Trial) -> TrialResult:
        raise LookupError("no fork")

    with pytest.raises(LookupError, match="no fork"):
        run_trials(Plan(20, 0.9), 7, 2, make)


def test_the_report_says_what_failed_and_how_many_trials_would_prove_it() -> None:
    def make(trial: Trial) -> TrialResult:
        return ends(trial, Outcome.FAILED if trial.number in (2, 5, 6) else Outcome.PASSED)

    report = run_trials(Plan(20, 0.9), 7, 1, make)
    text = "\n".join(report.lines())
    assert "failed: 3 of 6 trials passed (0.5; interval " in text
    assert "at confidence 0.95). At least 0.9 should pass. It is not proved" in text
    assert "at this rate, 10 trials would prove it." in text
    assert "Cost 1.5000 USD, 60 tokens, 12 model calls, 6 turns" in text
    assert f"Trials that are failed: 2 (seed {trial_of(7, 2).seed}), 5 (seed " in text
    assert [each.number for each in report.first_failures()] == [2, 5, 6]


@pytest.mark.parametrize(
    ("places", "running", "pool", "expected"),
    [(None, 0, 4, 4), (None, 0, 20, 8), (3, 1, 4, 2), (1, 1, 2, 1), (12, 1, 0, 2)],
)
def test_as_many_run_at_once_as_there_is_room_for(
    places: int | None, running: int, pool: int, expected: int
) -> None:
    health = {
        "places": places, "instances": {"running": running}, "hibernated": 0,
        "pool": {"size": pool},
    }  # fmt: skip
    assert how_many_at_once(health) == expected
