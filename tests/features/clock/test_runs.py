"""Which runs of jobs an advance has let happen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from chowder_local.features.clock.runs import AdvancedRuns
from chowder_local.openclaw.jobs import read_job, read_runs

if TYPE_CHECKING:
    from chowder_local.openclaw.jobs import Job, JobRun

NINE = datetime(2027, 1, 1, 9, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NINE + timedelta(minutes=minutes)


def ms(minutes: float) -> int:
    return int(at(minutes).timestamp() * 1000)


def jobs(due: dict[str, float | None], **ran: float) -> dict[str, Job]:
    """Jobs with the minutes at which they are due, and of their last runs."""
    listed = {}
    for name, next_run in due.items():
        state = {} if next_run is None else {"nextRunAtMs": ms(next_run)}
        state |= {"lastRunAtMs": ms(ran[name])} if name in ran else {}
        listed[name] = read_job({"id": name, "name": name, "enabled": True, "state": state})
    return listed


def run(job: str, began: float, took: float = 0.5, **more: Any) -> JobRun:
    entry = {"jobId": job, "ts": ms(began + took), "runAtMs": ms(began), "status": "ok", **more}
    (read,) = read_runs({"entries": [entry]})
    return read


def begun(due: dict[str, float | None], *earlier: JobRun, **ran: float) -> AdvancedRuns:
    runs = AdvancedRuns()
    runs.begin(jobs(due, **ran), earlier)
    return runs


def noted(runs: AdvancedRuns) -> list[tuple[str, datetime, datetime]]:
    return [(each.job_id, each.due_at, each.began_at) for each in runs.in_order()]


def test_the_runs_of_a_step_are_noted_in_their_order_with_their_due_times() -> None:
    runs = begun({"long": 0, "meanwhile": 3})
    listed = [run("long", 0, took=9), run("meanwhile", 4), run("unknown", 5)]
    runs.note(jobs({"long": 1440, "meanwhile": 1443}), listed, at(9))
    expected = [("long", 0, 0), ("meanwhile", 3, 4), ("unknown", 5, 5)]
    assert noted(runs) == [(job, at(due), at(began)) for job, due, began in expected]
    assert len(runs) == 3


def test_a_job_that_runs_twice_in_a_step_was_due_when_its_first_run_said_so() -> None:
    runs = begun({"often": 0})
    listed = [run("often", 2.5), run("often", 0, nextRunAtMs=ms(2))]
    runs.note(jobs({"often": 4}), listed, at(3))
    assert noted(runs) == [("often", at(0), at(0)), ("often", at(2), at(2.5))]


def test_a_run_is_noted_once_and_an_earlier_or_forced_one_not_at_all() -> None:
    before, step, forced = run("a", 0), run("a", 5), run("a", 6, runId="manual:1")
    runs = begun({"a": 5}, before, a=0)
    runs.note(jobs({"a": 10}, a=5), [step, before], at(5))
    # The lists of jobs and of runs are not of one moment.
    runs.note(jobs({"a": 10}, a=6), [forced, step, before], at(7))
    assert noted(runs) == [("a", at(5), at(5))]


def test_a_run_of_openclaws_own_is_known_by_its_job_alone() -> None:
    runs = begun({"own": 5}, own=0)
    runs.note(jobs({"own": 10}, own=5), [], at(6))
    runs.note(jobs({"own": 10}, own=5), [], at(7))
    assert noted(runs) == [("own", at(5), at(5))]


def test_a_due_time_that_goes_by_without_a_run_is_noted_as_skipped() -> None:
    runs = begun({"passed over": 5, "later": 9})
    runs.note(jobs({"passed over": 10, "later": 11}), [], at(6))
    assert [(each.job, each.outcome) for each in runs.in_order()] == [("passed over", "skipped")]
