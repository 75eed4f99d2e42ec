"""Runs the trials of a file's cases by the API, each on a fork that is deleted afterwards."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.trials.cases import UNDECIDED, Evidence
from chowder_local.trials.run import (
    NO_FORK,
    Outcome,
    TrialResult,
    how_many_at_once,
    run_trials,
)
from chowder_local.trials.spending import refusal, spending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chowder_local.client import Client
    from chowder_local.client.transport import Json
    from chowder_local.trials.cases import Case, Cases
    from chowder_local.trials.run import Trial, TrialsReport

    Fork = Callable[[str], Json]
    """Forks a state to an instance of a name."""

NAME_LENGTH = 100
MAX_TURNS = 1_000


class MessageRefused(Exception):
    """A trial's agent has not answered."""


@dataclass(eq=False, repr=False)
class CaseRunner:
    """Runs cases with a client; `model` is that of messages whose case and file name none."""

    client: Client
    cases: Cases
    seed: int
    model: str

    def __post_init__(self) -> None:
        self._agents: set[str] = set()
        """Forks and the judge, until they are deleted."""
        self._is_closed = False
        self._judge_id: str | None = None
        self._one_judge = Lock()

    def run(self, case: Case, fork: Fork) -> TrialsReport:
        """Runs the trials of a case.

        Raises ChowderError if no fork can be made, or if the server cannot be reached.
        """
        at_once = how_many_at_once(self.client.health())
        plan = self.cases.plan(case)
        return run_trials(
            plan, self.seed, at_once, lambda trial: self._make(case, trial, fork), self._ending()
        )

    def close(self) -> None:
        """Deletes the agents that are left, which ends what is asked of them. No other is made."""
        self._is_closed = True
        for each in tuple(self._agents):
            self._delete(each)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        # An interruption, which is no Exception, does not wait for models.
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _keep(self, made: Json) -> str:
        instance_id: str = made["id"]
        self._agents.add(instance_id)
        if self._is_closed:
            self._delete(instance_id)
            raise CancelledError
        return instance_id

    def _delete(self, instance_id: str) -> None:
        try:
            self.client.delete(instance_id)
        except ApiRefused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
        self._agents.discard(instance_id)

    def _make(self, case: Case, trial: Trial, fork: Fork) -> TrialResult:
        began, since, client = time.monotonic(), datetime.now(UTC), self.client
        with ExitStack() as exits:
            instance_id = self._keep(fork(f"{case.name[:NAME_LENGTH]} {trial.number}"))
            exits.callback(self._delete, instance_id)
            try:
                client.wait_until_running(instance_id)
                client.set_clock(instance_id, seed=trial.seed)
                if case.budget is not None:
                    limits = case.budget.model_dump(exclude_none=True)
                    client.set_budget(instance_id=instance_id, **limits)
            except (ApiRefused, BootFailed) as problem:
                outcome, reason, is_last = Outcome.UNDECIDED, f"{NO_FORK}: {problem}", False
            else:
                outcome, reason, is_last = self._outcome(case, instance_id, since)
            return TrialResult(
                trial.number,
                trial.seed,
                outcome,
                reason,
                spent=spending(client, instance_id, since),
                took_s=time.monotonic() - began,
                is_last=is_last,
            )

    def _outcome(self, case: Case, instance_id: str, since: datetime) -> tuple[Outcome, str, bool]:
        """How a trial ends, why, and whether no other one can have an outcome."""
        try:
            problems = self._evidence(case, instance_id, since).problems(case.checks)
        except (MessageRefused, *UNDECIDED) as problem:
            ended = refusal(self.client, [instance_id], since)
            if ended is not None:
                return Outcome.UNDECIDED, *ended
            if isinstance(problem, MessageRefused):
                return Outcome.FAILED, str(problem), False
            return Outcome.UNDECIDED, f"it is not checked: {problem}", False
        return Outcome.FAILED if problems else Outcome.PASSED, "; ".join(problems), False

    def _evidence(self, case: Case, instance_id: str, since: datetime) -> Evidence:
        client, model = self.client, case.model or self.cases.model or self.model
        before = max((each["position"] for each in self._turns(case, instance_id)), default=-1)
        answer = ""
        for message in case.all_messages:
            try:
                answer = _text_of(client.respond(instance_id, message, model, case.session))
            except ApiRefused as refused:
                raise MessageRefused(refused) from None
        turns = self._turns(case, instance_id)
        return Evidence(
            case.all_messages,
            answer,
            [each for each in turns if each["role"] == "tool_call" and each["position"] > before],
            spending(client, instance_id, since),
            lambda path: client.read_file(instance_id, path),
            self._judge,
        )

    def _turns(self, case: Case, instance_id: str) -> Sequence[Json]:
        """The turns of the case's session, if a check is about them."""
        if all(each.tool_called is None for each in case.checks):
            return []
        try:
            page = self.client.transcript(instance_id, case.session, limit=MAX_TURNS)
        except ApiRefused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            return []
        turns: list[Json] = page["turns"]
        return turns

    def _judge(self, model: str, text: str) -> str:
        # A session for each judgement, of an agent that is none of those that are judged.
        with self._one_judge:
            if self._judge_id is None:
                made = self._keep(self.client.create_instance("judge of trials"))
                self.client.wait_until_running(made)
                self._judge_id = made
        session = f"judgement-{uuid.uuid4().hex}"
        return _text_of(self.client.respond(self._judge_id, text, model, session))


def _text_of(response: dict[str, Any]) -> str:
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    )
