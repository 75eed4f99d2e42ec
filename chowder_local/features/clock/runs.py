"""The runs that an advance of a clock lets happen, whichever job they are of (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.untrusted_json import moment_of, object_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from chowder_local.openclaw.jobs import Job, JobRun

    Jobs = Mapping[str, Job]


@dataclass(frozen=True)
class AdvancedRun:
    """A run of a job that an advance has let happen, by the agent's clock."""

    job_id: str
    job: str
    due_at: datetime
    began_at: datetime
    took_s: float
    outcome: str | None
    """As that of `JobRun`."""
    error: str | None = None
    answer: str | None = None
    session_key: str | None = None


class AdvancedRuns:
    """The runs since an advance has begun, each once."""

    def __init__(self) -> None:
        self._jobs: Jobs = {}
        self._known: set[str] = set()
        self._latest: dict[str, datetime] = {}
        """The beginnings of the latest runs that OpenClaw has listed, by job."""
        self._runs: list[AdvancedRun] = []

    def begin(self, jobs: Jobs, earlier: Iterable[JobRun]) -> None:
        """Leaves out runs that had ended before. `jobs` are as they are now."""
        self._jobs = jobs
        self._known = {each.id for each in earlier}

    def __len__(self) -> int:
        return len(self._runs)

    def in_order(self) -> list[AdvancedRun]:
        """The runs in the order of their beginnings."""
        return sorted(self._runs, key=lambda each: each.began_at)

    def note(self, jobs: Jobs, listed: Iterable[JobRun], now: datetime) -> None:
        """Adds what has happened since the latest call, or the beginning.

        `listed` are the runs that have ended since, and perhaps earlier ones, and `now` is the
        agent's time.
        """
        due = {key: job.next_run_at for key, job in self._jobs.items()}
        for run in sorted(listed, key=lambda each: each.began_at):
            if run.id in self._known:
                continue
            self._known.add(run.id)
            self._latest[run.job_id] = run.began_at
            # Somebody has begun a forced run, and it leaves the next due time alone.
            if not run.is_forced:
                self._add(run, due.get(run.job_id))
                due[run.job_id] = moment_of(run.openclaw.get("nextRunAtMs"))
        for key, job in self._jobs.items():
            self._note_unlisted(job, jobs.get(key), now)
        self._jobs = jobs

    def _add(self, run: JobRun, due_at: datetime | None) -> None:
        job = self._jobs.get(run.job_id)
        self._runs.append(
            AdvancedRun(
                run.job_id,
                run.job or (job.name if job else ""),
                run.began_at if due_at is None else min(due_at, run.began_at),
                run.began_at,
                (run.ended_at - run.began_at).total_seconds(),
                run.outcome,
                error=run.error,
                answer=run.answer,
                session_key=run.session_key,
            )
        )

    def _note_unlisted(self, before: Job, job: Job | None, now: datetime) -> None:
        """Adds a run of OpenClaw's own jobs, of which it lists none, or that one was left out."""
        due_at, latest = before.next_run_at, self._latest.get(before.id)
        last = None if job is None else job.last_run
        if last is not None and latest is None and last.at != _last_at(before):
            run = AdvancedRun(
                before.id, before.name, due_at or last.at, last.at, last.took_s or 0.0,
                last.outcome, last.error,
            )  # fmt: skip
        elif (
            due_at is not None
            and due_at <= now
            and (latest is None or latest < due_at)
            and not (job is not None and (is_running(job) or job.next_run_at == due_at))
        ):
            # Its next time is another one, but it has not run.
            run = AdvancedRun(before.id, before.name, due_at, due_at, 0.0, "skipped")
        else:
            return
        self._runs.append(run)


def waits(before: Job, job: Job | None) -> bool:
    """Whether a job that was due has not run to its end; one that ran only once may be gone."""
    if job is None:
        return False
    is_as_before = job.next_run_at == before.next_run_at and _last_at(job) == _last_at(before)
    return is_running(job) or is_as_before


def is_running(job: Job) -> bool:
    """Whether a run is in progress, or about to begin."""
    is_queued = object_at(job.openclaw, "state").get("queuedAtMs") is not None
    return is_queued or job.running_since is not None


def _last_at(job: Job) -> datetime | None:
    return None if job.last_run is None else job.last_run.at
