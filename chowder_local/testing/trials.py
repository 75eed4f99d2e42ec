"""Runs the body of a test as trials, each on agents or in a session of its own."""

from __future__ import annotations

import asyncio
import inspect
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.testing.live import LiveInstance
from chowder_local.testing.state_fixtures import delete
from chowder_local.trials.run import (
    NO_FORK,
    Outcome,
    TrialResult,
    how_many_at_once,
    new_seed,
    run_trials,
)
from chowder_local.trials.spending import Spending, refusal, spending
from chowder_local.trials.statistics import Plan, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chowder_local.testing.live import LiveOrganization
    from chowder_local.trials.run import Trial, TrialsReport

__tracebackhide__ = True

FORK, SESSION = "fork", "session"
NAME_LENGTH = 100


@dataclass(eq=False, repr=False)
class _TrialState:
    """What one trial has in place of the fixtures that its test shares."""

    trial: Trial
    item: pytest.Function
    is_forking: bool

    def __post_init__(self) -> None:
        self.agents: list[LiveInstance] = []
        self.session: str | None = None
        self.exits = ExitStack()
        self.began, self.since = time.monotonic(), datetime.now(UTC)

    def arguments(self, shared: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the trial's body: forks, a new session and a folder of its own."""
        own = {name: self._own(name, value) for name, value in shared.items()}
        if "chowder_replies" in own and self.is_forking and len(self.agents) == 1:
            own["chowder_replies"] = self.agents[0].replies
        return own

    def fork(self, instance: LiveInstance) -> LiveInstance:
        fork = instance.fork(f"{self.item.name[:NAME_LENGTH]} {self.trial.number}")
        self.exits.callback(delete, fork)
        self.agents.append(fork)
        # Its ids, which are random otherwise.
        fork.clock.set(seed=self.trial.seed)
        return fork

    def spent(self) -> Spending:
        parts = (spending(each.client, each.id, self.since, self.session) for each in self.agents)
        return sum(parts, Spending())

    def sections(self) -> list[tuple[str, str]]:
        """Titles and texts of what its agents did, for a report."""
        sections: list[tuple[str, str]] = []
        for agent in self.agents:
            try:
                sections += agent.report(self.since)
            except ChowderError as problem:
                sections.append((f"report of {agent.name}", f"incomplete: {problem}"))
        return sections

    def result(
        self,
        outcome: Outcome,
        reason: str,
        sections: Sequence[tuple[str, str]],
        *,
        is_last: bool = False,
    ) -> TrialResult:
        took_s = time.monotonic() - self.began
        return TrialResult(
            self.trial.number,
            self.trial.seed,
            outcome,
            reason,
            sections,
            self.spent(),
            took_s,
            is_last,
        )

    def _own(self, name: str, value: Any) -> Any:
        if isinstance(value, LiveInstance):
            if self.is_forking:
                return self.fork(value)
            self.agents.append(value)
        elif name == "chowder_trial":
            return self.trial
        elif name == "chowder_fork":
            return self.fork
        elif name == "chowder_session":
            session = f"{self.item.name[:NAME_LENGTH]}-{self.trial.number}-{uuid.uuid4().hex[:8]}"
            self.session = None if self.is_forking else session
            return session
        elif name == "tmp_path" and isinstance(value, Path):
            folder = value / f"trial-{self.trial.number}"
            folder.mkdir()
            return folder
        return value


@dataclass(eq=False, repr=False)
class MarkedTest:
    """A test with the marker `chowder_trials`."""

    item: pytest.Function
    organization: LiveOrganization
    trials: int
    at_least: float = 1.0
    confidence: float = 0.95
    isolation: str = FORK
    seed: int | None = None
    body: Callable[..., Any] = field(init=False)

    def __post_init__(self) -> None:
        self.body = self.item.obj

    def run(self, shared: Mapping[str, Any]) -> TrialsReport:
        """Runs the trials with the arguments that the test has got from its fixtures.

        Raises what ends the test itself, such as a skip, and ChowderError if no fork can be made.
        """
        seed = self.item.config.getoption("--chowder-seed")
        if seed is None:
            seed = new_seed() if self.seed is None else self.seed
        is_whole = self.item.config.getoption("--chowder-baseline") is not None
        plan = Plan(self.trials, self.at_least, self.confidence, is_whole)
        at_once = how_many_at_once(self.organization.client.health())
        return run_trials(plan, seed, at_once, lambda trial: self._make(trial, shared))

    def _make(self, trial: Trial, shared: Mapping[str, Any]) -> TrialResult:
        state = _TrialState(trial, self.item, self.isolation == FORK)
        with state.exits:
            try:
                arguments = state.arguments(shared)
            except BootFailed as failed:
                return state.result(Outcome.UNDECIDED, f"{NO_FORK}: {failed}", [])
            try:
                result = self._call(arguments)
                if inspect.iscoroutine(result):
                    asyncio.run(result)
                for agent in state.agents if state.is_forking else ():
                    for problem in agent.replies.problems():
                        pytest.fail(problem, pytrace=False)
            except pytest.xfail.Exception:
                # It is a failure to pytest's classes, but the test asked for it.
                raise
            except (Exception, pytest.fail.Exception) as raised:  # noqa: BLE001 - any fails the trial
                return self._failed(state, raised)
            is_reported = self.item.config.getoption("--chowder-report") is not None
            sections = state.sections() if is_reported else []
            return state.result(Outcome.PASSED, "", sections)

    def _call(self, arguments: Mapping[str, Any]) -> Any:
        body = self.body
        if not inspect.iscoroutinefunction(body):
            # A plugin for async tests may have made a function of it that uses its own loop.
            inner = inspect.unwrap(body)
            if inspect.iscoroutinefunction(inner):
                owner = self.item.instance
                is_bound = owner is None or isinstance(inner, MethodType)
                body = inner if is_bound else MethodType(inner, owner)
        return body(**arguments)

    def _failed(self, state: _TrialState, raised: BaseException) -> TrialResult:
        reason = str(self.item.repr_failure(pytest.ExceptionInfo.from_exception(raised)))
        outcome, is_last = Outcome.FAILED, False
        ids = [each.id for each in state.agents]
        refused = refusal(self.organization.client, ids, state.since)
        if refused is not None:
            (reason, is_last), outcome = refused, Outcome.UNDECIDED
        elif state.is_forking:
            # What follows from a message that no rule matched does not tell.
            problems = (next(each.replies.problems(), None) for each in state.agents)
            reason = next(filter(None, problems), reason)
        return state.result(outcome, reason, state.sections(), is_last=is_last)


def check_marker(item: pytest.Function, marker: pytest.Mark) -> None:
    """Raises pytest.UsageError if the marker's values do not fit, or not the test."""
    members = {**dict(zip(("trials",), marker.args, strict=False)), **marker.kwargs}
    isolation = members.pop("isolation", FORK)
    members.pop("seed", None)
    try:
        if isolation not in (FORK, SESSION):
            raise ValueError(f'isolation should be "{FORK}" or "{SESSION}", not {isolation!r}')
        if isolation == SESSION and "chowder_session" not in item.fixturenames:
            raise ValueError('isolation="session" needs the fixture chowder_session')
        if item.get_closest_marker("chowder_recording"):
            raise ValueError("a recording answers each trial the same: remove chowder_recording")
        Plan(**{"at_least": 1.0, **members})
    except (TypeError, ValueError) as problem:
        raise pytest.UsageError(f"{item.nodeid}: chowder_trials: {problem}") from None


def fail_unless_passed(report: TrialsReport) -> None:
    """Fails the test with the report of its trials, if they have not passed."""
    if report.verdict is Verdict.PASSED:
        return
    lines = list(report.lines())
    if report.verdict is Verdict.UNDECIDED:
        causes = [each.reason for each in report.results if each.outcome is Outcome.UNDECIDED]
        lines = [f"undecided: {causes[0]}" if causes else "undecided", *lines]
    for each in report.first_failures():
        if each.outcome is Outcome.FAILED:
            lines += ["", f"Trial {each.number}, seed {each.seed}:", each.reason]
    pytest.fail("\n".join(lines), pytrace=False)
