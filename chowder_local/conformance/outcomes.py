"""A pytest plugin that writes what a run of the suite has found to a file, without secrets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chowder_local.conformance.drift import Drift, DriftFinding, Judge, redacted
from chowder_local.conformance.service import RowsFailed

if TYPE_CHECKING:
    from collections.abc import Generator

OPTION = "--conformance-outcomes"
JUDGE = pytest.StashKey[Judge]()
OPERATIONS = pytest.StashKey[list[tuple[str, bool]]]()
"""The operations of all requests, in order, and whether they succeeded."""
NO_CALL = "no call"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, type=Path, required=True, help="The file for the outcomes.")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Outcomes(config), "chowder-local-outcomes")


@dataclass(eq=False, repr=False)
class Outcomes:
    """Collects the outcomes of tests."""

    config: pytest.Config

    def __post_init__(self) -> None:
        self._tests: dict[str, dict[str, str]] = {}
        self._findings: list[DriftFinding] = []
        self._begin = 0
        """How many requests there were before the current test."""

    def pytest_runtest_logstart(self) -> None:
        self._begin = len(self._requests)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Notes a test's outcome, and its drifts: those that fail it and those that are known."""
        report = yield
        name = sentence(item.name)
        outcome = self._tests.setdefault(item.nodeid, {"test": name, "outcome": "passed"})
        if report.failed:
            outcome["outcome"] = "failed"
        elif report.skipped and isinstance(report.longrepr, tuple):
            reason = redacted(report.longrepr[2]).removeprefix("Skipped: ")
            outcome.update(outcome="skipped", reason=reason)
        drifts = self._drifts(call.excinfo.value, name) if report.failed and call.excinfo else []
        if (judge := self.config.stash.get(JUDGE, None)) is not None:
            drifts += judge.take_known()
        self._findings += [DriftFinding.from_drift(each, name) for each in drifts]
        return report

    def pytest_sessionfinish(self) -> None:
        """Writes the file."""
        content = {
            "tests": list(self._tests.values()),
            "findings": [each.as_json() for each in self._findings],
            "operations": sorted({name for name, is_success in self._requests if is_success}),
        }
        file: Path = self.config.getoption(OPTION)
        file.write_text(json.dumps(content), encoding="utf-8")

    def _drifts(self, error: BaseException, test: str) -> list[Drift]:
        if isinstance(error, RowsFailed):
            return [self._drift(each, test, f"{row}: ") for row, each in error.failed]
        return [self._drift(error, test)]

    def _drift(self, error: BaseException, test: str, row: str = "") -> Drift:
        if isinstance(error, Drift):
            return error
        requests = self._requests[self._begin :]
        operation = requests[-1][0] if requests else NO_CALL
        observed = str(error) if isinstance(error, AssertionError) else repr(error)
        return Drift(operation, test, f"{row}{observed}")

    @property
    def _requests(self) -> list[tuple[str, bool]]:
        return self.config.stash.get(OPERATIONS, [])


def sentence(test: str) -> str:
    """What the name of a test says."""
    text = test.removeprefix("test_").replace("_", " ")
    return f"{text[:1].upper()}{text[1:]}"
