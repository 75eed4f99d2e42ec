"""The cases of a file for `chowder-local trials`, and their checks."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Self

import jsonschema_rs
import regex
from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.core.strict_model import StrictModel
from chowder_local.features.budgets.model import BudgetPeriod, BudgetSetting
from chowder_local.seeding.desired_state import read
from chowder_local.trials.statistics import MAX_TRIALS, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from chowder_local.trials.spending import Spending

REGEX_TIMEOUT_S = 5.0
SHOWN_LENGTH = 500
PASS, FAIL = "PASS", "FAIL"
QUESTION = """\
You judge the answer of another agent. The question is: {question}

The agent was asked:
{asked}

Its answer is:
{answer}

Write PASS or FAIL in the first line, and the reason in the second.\
"""


def _pattern(text: str) -> str:
    try:
        regex.compile(text)
    except regex.error as problem:
        raise ValueError(f"it should be a regular expression: {problem}") from None
    return text


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        jsonschema_rs.validator_for(schema)
    except (ValueError, jsonschema_rs.ReferencingError) as problem:
        raise ValueError(f"it should be a JSON schema: {problem}") from None
    return schema


Text = Annotated[str, Field(min_length=1)]
Pattern = Annotated[Text, AfterValidator(_pattern)]


class _Part(StrictModel):
    model_config = ConfigDict(frozen=True)


class CalledTool(_Part):
    """A tool that the agent has to call, and arguments of the call."""

    name: Text
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Those that the call has to have; others may be there."
    )


class FileContent(_Part):
    """A file that the agent has to leave in its home."""

    path: Text
    contains: Text | None = None
    equals: str | None = None
    regex: Pattern | None = None


class Judge(_Part):
    """A question about the answer, for a model of one's choice, in an agent of its own."""

    model: Text
    question: Text


class Check(_Part):
    """One thing that has to hold; exactly one member."""

    contains: Text | None = None
    regex: Pattern | None = None
    json_schema: Annotated[dict[str, Any], AfterValidator(_schema)] | None = None
    tool_called: CalledTool | None = None
    file: FileContent | None = None
    cost_usd_at_most: float | None = Field(None, ge=0)
    turns_at_most: int | None = Field(None, ge=0)
    model_calls_at_most: int | None = Field(None, ge=0)
    judge: Judge | None = None

    @model_validator(mode="after")
    def _check_is_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("a check has exactly one member, such as contains")
        return self


class State(_Part):
    """What each trial gets a fork of."""

    instance: Text | None = Field(None, description="Name or id of an agent.")
    snapshot: Text | None = Field(None, description="Name or id of a snapshot.")
    seed: Text | None = Field(
        None, description="Seed file, relative to this one; `instance` is one of its agents."
    )

    @model_validator(mode="after")
    def _check_is_one(self) -> Self:
        if (self.instance is None) is (self.snapshot is None):
            raise ValueError("name either an instance or a snapshot")
        if self.seed is not None and self.instance is None:
            raise ValueError("name the instance of the seed file")
        return self


class Budget(BudgetSetting):
    """The most that a trial's agent may take."""

    per: BudgetPeriod = BudgetPeriod.TOTAL


class Case(_Part):
    """Messages to an agent in a state, and what has to hold after them."""

    name: Text
    state: State | None = Field(None, description="Without it, a new agent.")
    message: Text | None = None
    messages: list[Text] = Field(default_factory=list, description="Instead of one `message`.")
    session: Text | None = Field(None, description="Without it, the main session.")
    model: Text | None = None
    checks: list[Check] = Field(min_length=1)
    trials: int | None = Field(None, ge=1, le=MAX_TRIALS)
    at_least: float | None = Field(None, gt=0, le=1)
    budget: Budget | None = Field(None, description="Of each trial's agent.")

    @model_validator(mode="after")
    def _check_messages(self) -> Self:
        if (self.message is None) is not bool(self.messages):
            raise ValueError("write a message, or messages")
        return self

    @property
    def all_messages(self) -> list[str]:
        """What the agent is told, one message after the other."""
        return self.messages if self.message is None else [self.message]


class Cases(_Part):
    """A file of cases, with what they have in common."""

    trials: int = Field(10, ge=1, le=MAX_TRIALS)
    at_least: float = Field(1.0, gt=0, le=1)
    confidence: float = Field(0.95, ge=0.5, lt=1)
    model: Text | None = None
    cases: list[Case] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [each.name for each in self.cases]
        if len(set(names)) < len(names):
            raise ValueError("each case needs a name of its own")
        return self

    def plan(self, case: Case) -> Plan:
        """The plan of a case."""
        at_least = self.at_least if case.at_least is None else case.at_least
        return Plan(case.trials or self.trials, at_least, self.confidence)


def read_cases(file: Path) -> Cases:
    """Reads a file of cases. Raises SettingsInvalid if it is invalid, with its line."""
    content, location = read(file)
    if not isinstance(content, dict):
        location.fail("It should begin with 'cases:'; docs/guides/trials.md has an example.")
    try:
        return Cases.model_validate(content)
    except ValidationError as invalid:
        problem = invalid.errors(include_url=False, include_input=False)[0]
        message = problem["msg"].removeprefix("Value error, ").rstrip(".")
        replace(location, path=problem["loc"]).fail(f"{message[:1].upper()}{message[1:]}.")


class NoJudgement(Exception):
    """A judge has not said whether a trial passes."""


UNDECIDED = (NoJudgement, ApiRefused, BootFailed)
"""What keeps a check from being decided."""


@dataclass(frozen=True)
class Evidence:
    """What a trial has left to check."""

    asked: Sequence[str]
    answer: str
    """The answer to the last message."""
    tool_calls: Sequence[Mapping[str, Any]]
    """Each with `name` and `arguments`."""
    spent: Spending
    read_file: Callable[[str], str]
    judge: Callable[[str, str], str]
    """Sends a message to a model, and returns its answer."""

    def problems(self, checks: Sequence[Check]) -> list[str]:
        """Why checks do not hold. Judges are asked only if all else holds.

        Raises what kept a check from being decided if no other one fails.
        """
        found: list[str] = []
        unknown: Exception | None = None
        for each in sorted(checks, key=lambda each: each.judge is not None):
            if each.judge is not None and found:
                break
            try:
                found += filter(None, [self.problem(each)])
            except UNDECIDED as problem:
                unknown = problem
        if unknown is not None and not found:
            raise unknown
        return found

    def problem(self, check: Check) -> str | None:
        """Why a check does not hold, if so. Raises UNDECIDED."""
        (name,) = check.model_fields_set
        problem: str | None = getattr(self, f"_{name}")(getattr(check, name))
        return problem

    def _contains(self, text: str) -> str | None:
        return None if text in self.answer else f"the answer does not contain {text!r}"

    def _regex(self, pattern: str) -> str | None:
        return _missing(pattern, self.answer, "the answer")

    def _json_schema(self, schema: Mapping[str, Any]) -> str | None:
        try:
            value = json.loads(self.answer)
        except ValueError:
            return "the answer is not JSON"
        error = next(jsonschema_rs.validator_for(dict(schema)).iter_errors(value), None)
        return None if error is None else f"the answer does not fit the schema: {error.message}"

    def _tool_called(self, tool: CalledTool) -> str | None:
        calls = [each["arguments"] or {} for each in self.tool_calls if each["name"] == tool.name]
        wanted = tool.arguments
        if any(wanted == {name: each.get(name) for name in wanted} for each in calls):
            return None
        if not calls:
            return f"the tool {tool.name} was not called"
        return f"the tool {tool.name} was called with {json.dumps(calls)[:SHOWN_LENGTH]} only"

    def _file(self, file: FileContent) -> str | None:
        try:
            content = self.read_file(file.path)
        except ApiRefused as problem:
            if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            return f"the file {file.path} cannot be read: {problem}"
        if file.contains is not None and file.contains not in content:
            return f"the file {file.path} does not contain {file.contains!r}"
        if file.equals is not None and file.equals != content:
            return f"the file {file.path} has other content: {content[:SHOWN_LENGTH]!r}"
        if file.regex is not None:
            return _missing(file.regex, content, f"the file {file.path}")
        return None

    def _cost_usd_at_most(self, most: float) -> str | None:
        cost = self.spent.cost_usd
        if cost is None:
            return "the cost is unknown, as a price is"
        return None if cost <= most else f"it cost {cost:.6f} USD, more than {most:g}"

    def _turns_at_most(self, most: int) -> str | None:
        return _more_than(most, self.spent.turns, "turns")

    def _model_calls_at_most(self, most: int) -> str | None:
        return _more_than(most, self.spent.model_calls, "model calls")

    def _judge(self, judge: Judge) -> str | None:
        asked = "\n".join(self.asked)
        text = QUESTION.format(question=judge.question, asked=asked, answer=self.answer)
        judgement = self.judge(judge.model, text).strip()
        first, _, reason = judgement.partition("\n")
        word = first.strip("*#. ").upper()
        if word == PASS:
            return None
        if word == FAIL:
            return f"{judge.model} judges: {reason.strip()[:SHOWN_LENGTH] or 'no reason'}"
        shown = judgement[:SHOWN_LENGTH]
        raise NoJudgement(f"{judge.model} wrote neither PASS nor FAIL: {shown!r}")


def _missing(pattern: str, text: str, where: str) -> str | None:
    try:
        is_found = regex.search(pattern, text, timeout=REGEX_TIMEOUT_S) is not None
    except TimeoutError:
        return f"{pattern!r} takes longer than {REGEX_TIMEOUT_S:g} s to search in {where}"
    return None if is_found else f"{pattern!r} is not in {where}"


def _more_than(most: int, number: int, noun: str) -> str | None:
    return None if number <= most else f"it took {number} {noun}, more than {most}"
