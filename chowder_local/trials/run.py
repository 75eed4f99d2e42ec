"""Runs the trials of a case, several at once, until the verdict is certain; and describes them."""

from __future__ import annotations

import hashlib
import secrets
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum, auto
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

from chowder_local.core.wording import count_of
from chowder_local.trials.spending import Spending
from chowder_local.trials.statistics import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from chowder_local.trials.statistics import Plan

MAX_AT_ONCE = 8
SHOWN_FAILURES = 3
NO_FORK = "its fork did not start"
SEED_BITS = 32


class Outcome(StrEnum):
    """How a trial ended."""

    PASSED = auto()
    FAILED = auto()
    UNDECIDED = auto()
    """It has no outcome of its own: a budget ended it, or its fork did not start."""


@dataclass(frozen=True)
class Trial:
    """One of the trials: its number from 1, and its seed, the same in a run with the same seed."""

    number: int
    seed: int
    random: Random = field(repr=False, compare=False)
    """Random numbers from the seed, for the trial alone."""


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended, why if it did not pass, and what it took."""

    number: int
    seed: int
    outcome: Outcome
    reason: str = ""
    sections: Sequence[tuple[str, str]] = ()
    """Titles and texts for the report of a failed trial, such as the agent's transcript."""
    spent: Spending = field(default_factory=Spending)
    took_s: float = 0.0
    is_last: bool = False
    """Whether no trial after it can have an outcome, as the budget that ended it is everybody's."""


@dataclass(frozen=True)
class TrialsReport:
    """The trials that count, in order, and the verdict on them."""

    plan: Plan
    seed: int
    verdict: Verdict
    results: Sequence[TrialResult]
    uncounted: int = 0
    """How many had begun when the verdict was certain, and count for nothing."""

    @property
    def passed(self) -> int:
        return self._count(Outcome.PASSED)

    @property
    def failed(self) -> int:
        return self._count(Outcome.FAILED)

    @property
    def undecided(self) -> int:
        return self._count(Outcome.UNDECIDED)

    @property
    def counted(self) -> int:
        """The trials that have an outcome."""
        return self.passed + self.failed

    @property
    def interval(self) -> tuple[float, float]:
        return self.plan.interval(self.passed, self.counted)

    @property
    def spent(self) -> Spending:
        return sum((each.spent for each in self.results), Spending())

    @property
    def headline(self) -> str:
        """The verdict in a line."""
        low, high = self.interval
        confidence = f"{self.plan.confidence:.4g}"
        counts = f"{self.passed} of {count_of(self.counted, 'trial')} passed"
        if self.counted:
            counts += (
                f" ({self.passed / self.counted:.3g}; "
                f"interval {low:.3f} to {high:.3f} at confidence {confidence})"
            )
        if self.undecided:
            counts += f", {self.undecided} undecided"
        return f"{self.verdict}: {counts}. At least {self.plan.at_least:g} should pass"

    @property
    def certainty(self) -> str:
        """Whether the verdict is proved, or what would prove it."""
        side = self.plan.side(self.passed, self.failed)
        if side is not None:
            word = "reached" if side is Verdict.PASSED else "missed"
            return f"It is proved at this confidence that the rate is {word}."
        if not self.counted:
            return "No trial has an outcome."
        rate = self.passed / self.counted
        number = self.plan.trials_to_prove(rate)
        if number is None:
            return "The rate is the demanded one, so no number of trials would prove the verdict."
        return (
            f"It is not proved at this confidence: at this rate, {count_of(number, 'trial')} "
            "would prove it."
        )

    def lines(self) -> Iterator[str]:
        """The report for people."""
        yield f"{self.headline}. {self.certainty}"
        if self.uncounted:
            yield (
                f"{count_of(self.uncounted, 'further trial')} had begun when the verdict was "
                "certain: not counted."
            )
        spent, turns = self.spent, [each.spent.turns for each in self.results]
        yield (
            f"Cost {spent.cost}, {spent.tokens:,} tokens, "
            f"{count_of(spent.model_calls, 'model call')}, "
            f"{count_of(spent.turns, 'turn')} (median of a trial {median(turns or [0]):g})."
        )
        yield f"Seed {self.seed}."
        for outcome in (Outcome.FAILED, Outcome.UNDECIDED):
            some = [each for each in self.results if each.outcome is outcome]
            if some:
                listed = ", ".join(f"{each.number} (seed {each.seed})" for each in some)
                yield f"Trials that are {outcome}: {listed}."

    def first_failures(self) -> list[TrialResult]:
        """The first trials that did not pass, which a report shows whole."""
        others = [each for each in self.results if each.outcome is not Outcome.PASSED]
        return others[:SHOWN_FAILURES]

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        low, high = self.interval
        return {
            "verdict": str(self.verdict),
            "passed": self.passed,
            "failed": self.failed,
            "undecided": self.undecided,
            "trials": self.plan.trials,
            "at_least": self.plan.at_least,
            "confidence": self.plan.confidence,
            "interval": [low, high],
            "is_proved": self.plan.side(self.passed, self.failed) is not None,
            "seed": self.seed,
            **vars(self.spent),
            "results": [
                {
                    "number": each.number,
                    "seed": each.seed,
                    "outcome": str(each.outcome),
                    "reason": each.reason,
                    "took_s": round(each.took_s, 3),
                    **vars(each.spent),
                }
                for each in self.results
            ],
        }

    def _count(self, outcome: Outcome) -> int:
        return sum(each.outcome is outcome for each in self.results)


def new_seed() -> int:
    return secrets.randbits(SEED_BITS)


def trial_of(seed: int, number: int) -> Trial:
    """A trial of a run with a seed."""
    digest = hashlib.sha256(f"{seed}:{number}".encode()).digest()
    own = int.from_bytes(digest[: SEED_BITS // 8], "big")
    return Trial(number, own, Random(own))  # noqa: S311 - to repeat a trial, not for secrets


def how_many_at_once(health: Mapping[str, Any]) -> int:
    """How many trials have room: two, or as many as there are warm sandboxes and places."""
    running: int = health["instances"].get("running", 0) - health["hibernated"]
    places: int = MAX_AT_ONCE if health["places"] is None else health["places"] - running
    return max(1, min(MAX_AT_ONCE, places, max(2, int(health["pool"]["size"]))))


def run_trials(
    plan: Plan,
    seed: int,
    at_once: int,
    make: Callable[[Trial], TrialResult],
    ending: AbstractContextManager[None] | None = None,
) -> TrialsReport:
    """Runs trials in threads until the verdict is certain.

    The verdict is on the first trials by number: in the order of their ends, quick failures would
    count before slow passes. What `make` raises ends the run. `ending` gets to know of an
    interruption before the trials in progress are waited for.
    """
    ended: dict[int, TrialResult] = {}
    results: list[TrialResult] = []
    passed = failed = undecided = 0
    verdict: Verdict | None = None
    running: set[Future[TrialResult]] = set()
    last = plan.trials
    begun = 0
    with (
        ThreadPoolExecutor(at_once, thread_name_prefix="trial") as threads,
        ending or nullcontext(),
    ):
        while verdict is None:
            while len(running) < at_once and begun < last:
                begun += 1
                running.add(threads.submit(make, trial_of(seed, begun)))
            if not running:
                # No further trial can have an outcome.
                verdict = plan.verdict(passed, failed, plan.trials - passed - failed)
                continue
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                result = each.result()
                ended[result.number] = result
                last = begun if result.is_last else last
            while verdict is None and (next_ := ended.pop(len(results) + 1, None)) is not None:
                results.append(next_)
                passed += next_.outcome is Outcome.PASSED
                failed += next_.outcome is Outcome.FAILED
                undecided += next_.outcome is Outcome.UNDECIDED
                verdict = plan.verdict(passed, failed, undecided)
    return TrialsReport(plan, seed, verdict, results, begun - len(results))
