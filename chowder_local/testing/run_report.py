"""What the tests of a run came to: compared with a baseline, and written where CI shows it."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.wording import count_of
from chowder_local.trials.baseline import Measures, compare, read_baseline, write_baseline
from chowder_local.trials.spending import Spending, spending, total

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from chowder_local.testing.live import LiveOrganization
    from chowder_local.trials.baseline import Change
    from chowder_local.trials.run import TrialsReport

SUMMARY_BYTES = 900_000
"""GitHub takes a summary of 1 MiB."""
SHOWN_TRANSCRIPT = 20_000
HEADINGS = (
    "", "Test", "Trials passed", "What the agent did", "Cost", "Since the baseline", "Transcript",
)  # fmt: skip
SUMMARY, TRANSCRIPTS, CODE_QUALITY = "summary.md", "transcripts", "gitlab-code-quality.json"


def facts_of_trials(report: TrialsReport) -> dict[str, Any]:
    """The facts of a test with trials, which xdist brings to the process that reports."""
    counted = [each for each in report.results if each.outcome != "undecided"]
    passed = [each for each in counted if each.outcome == "passed"]
    return {
        "passed": report.passed, "counted": report.counted, "needed": report.plan.needed,
        **_values([(each.spent, each.took_s) for each in counted]),
        "of_passed": _values([(each.spent, each.took_s) for each in passed]),
        "tools": list(report.spent.tools), "verdict": str(report.verdict),
    }  # fmt: skip


def facts_of_test(spent: Spending, took_s: float, *, has_passed: bool) -> dict[str, Any]:
    """The same of a test that ran once."""
    return {
        "passed": int(has_passed), "counted": 1, "needed": 1,
        **_values([(spent, took_s)]), "of_passed": _values([(spent, took_s)] * has_passed),
        "tools": list(spent.tools), "verdict": "passed" if has_passed else "failed",
    }  # fmt: skip


def _values(trials: Sequence[tuple[Spending, float]]) -> dict[str, list[float]]:
    """What each trial took; a cost that is unknown is left out."""
    spent = [each for each, _ in trials]
    return {
        "cost_usd": [each.cost_usd for each in spent if each.cost_usd is not None],
        "tokens": [each.tokens for each in spent],
        "model_calls": [each.model_calls for each in spent],
        "turns": [each.turns for each in spent],
        "took_s": [round(each, 3) for _, each in trials],
    }


def spent_in_test(
    organization: LiveOrganization, before: Spending | None, since: datetime
) -> Spending:
    """What the test that began then took; `before` is what the organization had taken."""
    now, earlier = total(organization.client), before or Spending()
    costs = now.cost_usd, earlier.cost_usd
    parts = (spending(organization.client, each.id, since) for each in organization.instances)
    found = sum(parts, Spending())
    return replace(
        found,
        # Instances that the test has deleted are in the organization's.
        cost_usd=None if costs[0] is None or costs[1] is None else costs[0] - costs[1],
        tokens=now.tokens - earlier.tokens,
        model_calls=now.model_calls - earlier.model_calls,
    )


def properties(facts: Mapping[str, Any]) -> list[tuple[str, object]]:
    """The properties of a test for JUnit's XML."""
    costs = facts["cost_usd"]
    return [
        ("chowder.verdict", facts["verdict"]),
        ("chowder.passed", facts["passed"]),
        ("chowder.trials", facts["counted"]),
        ("chowder.cost_usd", f"{sum(costs):.6f}"),
        ("chowder.tokens", int(sum(facts["tokens"]))),
        ("chowder.model_calls", int(sum(facts["model_calls"]))),
        ("chowder.turns", int(sum(facts["turns"]))),
    ]


@dataclass(frozen=True)
class _Test:
    name: str
    file: str
    line: int
    outcome: str
    facts: Mapping[str, Any]
    message: str
    sections: Sequence[tuple[str, str]]
    """Titles and texts of what its agents did."""

    def transcript(self, most: int | None = None) -> str:
        """The sections as Markdown, with at most so many characters of their texts."""
        each_most = None if most is None else most // max(1, len(self.sections))
        parts = (f"## {title}\n\n{_fenced(text[:each_most])}" for title, text in self.sections)
        return "\n\n".join(parts)

    @property
    def transcript_file(self) -> str:
        """The name of its transcript in the report's folder."""
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return f"{TRANSCRIPTS}/{re.sub(r'[^A-Za-z0-9.]+', '-', self.name)[:100]}-{digest}.md"

    @property
    def measures(self) -> Measures:
        return Measures.from_json({**self.facts, **self.facts["of_passed"]})


class RunReport:
    """Collects the tests of a run; a plugin of the process that reports."""

    def __init__(self, config: pytest.Config, env: Mapping[str, str]) -> None:
        self._env = env
        self._root = config.rootpath
        baseline, folder = (
            config.getoption(f"--chowder-{each}") for each in ("baseline", "report")
        )
        self._baseline = None if baseline is None else Path(baseline)
        self._folder = None if folder is None else Path(folder)
        self._is_updating: bool = config.getoption("--chowder-update")
        self._tests: list[_Test] = []
        self._changes: list[Change] = []
        self._lines: list[str] = []
        self._before: dict[str, Measures] = {}
        if self._baseline is not None and self._baseline.exists():
            try:
                self._before = read_baseline(self._baseline)
            except SettingsInvalid as problem:
                raise pytest.UsageError(str(problem)) from None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps the facts that the process of a test has added to its report."""
        facts = getattr(report, "chowder_facts", None)
        if facts is None:
            return
        path, line, _ = report.location
        sections = [*self._own_sections(report), *facts.pop("sections")]
        message = report.longreprtext
        self._tests.append(
            _Test(report.nodeid, path, (line or 0) + 1, report.outcome, facts, message, sections)
        )

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Compares and writes; a run fails if something became significantly worse."""
        if not self._tests:
            return
        now = {each.name: each.measures for each in self._tests}
        if self._baseline is not None:
            self._changes = compare(self._before, now)
            self._compare(now, self._baseline)
        if session.exitstatus == pytest.ExitCode.OK and any(
            each.is_failure for each in self._changes
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        summary = "\n".join(self._summary())
        if (file := self._env.get("GITHUB_STEP_SUMMARY")) is not None:
            with Path(file).open("a", encoding="utf-8") as summaries:
                summaries.write(_cut(summary, SUMMARY_BYTES))
        if self._folder is not None:
            self._write(self._folder, summary)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Prints what changed, and annotations for GitHub."""
        if self._lines:
            terminalreporter.section("chowder-local: since the baseline")
            for line in self._lines:
                terminalreporter.line(line)
        if self._env.get("GITHUB_ACTIONS") == "true":
            for line in self._annotations():
                terminalreporter.line(line)

    @staticmethod
    def _own_sections(report: pytest.TestReport) -> Iterator[tuple[str, str]]:
        for title, text in report.sections:
            if not title.startswith("Captured "):
                yield title, text

    def _compare(self, now: Mapping[str, Measures], file: Path) -> None:
        significant = [each for each in self._changes if each.is_worse or each.is_better]
        self._lines = [str(each) for each in significant]
        known = [each for each in now if each in self._before]
        if not significant and known:
            self._lines.append(f"Nothing is significantly worse or better in {len(known)} tests.")
        new = [each for each in now if each not in self._before]
        if self._is_updating or not self._before:
            write_baseline(file, {**self._before, **now})
            self._lines.append(f"The baseline of {len(now)} tests is written to {file}.")
        elif new:
            self._lines.append(f"Not in {file}, and written by --chowder-update: {', '.join(new)}")

    def _summary(self) -> Iterator[str]:
        """The run as Markdown."""
        yield "## Agents in tests\n"
        passed = sum(each.outcome == "passed" for each in self._tests)
        costs = [cost for each in self._tests for cost in each.facts["cost_usd"]]
        yield f"{passed} of {len(self._tests)} tests passed, for {sum(costs):.4f} USD.\n"
        yield f"| {' | '.join(HEADINGS)} |"
        yield f"|{' --- |' * len(HEADINGS)}"
        for each in self._tests:
            facts, changes = each.facts, [c for c in self._changes if c.test == each.name]
            cells = (
                {"passed": "✅", "failed": "❌", "undecided": "❔"}[facts["verdict"]],
                f"`{each.name}`",
                f"{facts['passed']} of {facts['counted']}",
                _deeds(facts),
                f"{sum(facts['cost_usd']):.4f} USD",
                _since(changes, is_known=each.name in self._before),
                self._link(each),
            )
            row = " | ".join(cell.replace("|", "\\|") for cell in cells)
            yield f"| {row} |"
        significant = [str(each) for each in self._changes if each.is_worse or each.is_better]
        if significant:
            yield "\n### Significant changes\n"
            yield from (f"- {each}" for each in significant)
        for each in self._tests:
            if each.outcome == "failed":
                yield f"\n<details><summary>{html.escape(each.name)}</summary>\n"
                yield _fenced(each.message[:SHOWN_TRANSCRIPT])
                yield f"\n{each.transcript(SHOWN_TRANSCRIPT)}\n"
                yield "</details>"
        yield ""

    def _link(self, test: _Test) -> str:
        if self._folder is None or not test.sections:
            return "below" if test.outcome == "failed" else "–"
        server, repository, run = (
            self._env.get(f"GITHUB_{each}") for each in ("SERVER_URL", "REPOSITORY", "RUN_ID")
        )
        if not (server and repository and run):
            return f"[transcript]({test.transcript_file})"
        # The address of a file in an artifact is not known before it is uploaded.
        run_url = f"{server}/{repository}/actions/runs/{run}#artifacts"
        return f'[transcript]({run_url} "{test.transcript_file}")'

    def _write(self, folder: Path, summary: str) -> None:
        (folder / TRANSCRIPTS).mkdir(parents=True, exist_ok=True)
        (folder / SUMMARY).write_text(summary, "utf-8")
        for each in self._tests:
            if each.sections:
                text = f"# {each.name}\n\n{each.transcript()}\n"
                (folder / each.transcript_file).write_text(text, "utf-8")
        findings = [
            {
                "description": message,
                "check_name": "chowder-local",
                "fingerprint": hashlib.sha256(f"{test.name} {title}".encode()).hexdigest(),
                "severity": "major" if level == "error" else "minor",
                "location": {"path": self._path(test), "lines": {"begin": test.line}},
            }
            for level, test, title, message in self._findings()
        ]
        (folder / CODE_QUALITY).write_text(json.dumps(findings, indent=2) + "\n", "utf-8")

    def _findings(self) -> Iterator[tuple[str, _Test, str, str]]:
        """What to say at the lines of tests: its level, the test, a title and a message."""
        for test in self._tests:
            if test.outcome == "failed":
                yield "error", test, "Agent test failed", _first_lines(test.message)
            for change in self._changes:
                if change.test == test.name and change.is_worse:
                    level = "error" if change.is_failure else "warning"
                    yield level, test, f"Worse than the baseline: {change.measure}", str(change)

    def _annotations(self) -> Iterator[str]:
        for level, test, title, message in self._findings():
            place = f"file={_property(self._path(test))},line={test.line},title={_property(title)}"
            yield f"::{level} {place}::{_data(message)}"

    def _path(self, test: _Test) -> str:
        """The path of a test's file in its repository."""
        workspace = self._env.get("GITHUB_WORKSPACE") or self._env.get("CI_PROJECT_DIR")
        file = self._root / test.file
        return test.file if workspace is None else os.path.relpath(file, workspace)


def _deeds(facts: Mapping[str, Any]) -> str:
    turns, calls = int(sum(facts["turns"])), int(sum(facts["model_calls"]))
    tools = ", ".join(f"{name} × {count}" for name, count in Counter(facts["tools"]).items())
    text = f"{count_of(turns, 'turn')}, {count_of(calls, 'model call')}"
    return f"{text}; {tools}" if tools else text


def _since(changes: Sequence[Change], *, is_known: bool) -> str:
    if not is_known:
        return "–"
    words = [
        f"{'🔴 worse' if each.is_worse else '🟢 better'}: {each.measure}"
        for each in changes
        if each.is_worse or each.is_better
    ]
    return "; ".join(words) or "as before"


def _fenced(text: str) -> str:
    fence = "`" * max(3, *(len(each) + 1 for each in re.findall(r"`+", text)), 3)
    return f"{fence}text\n{text}\n{fence}"


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")


def _first_lines(message: str) -> str:
    """The lines that say what failed: pytest's own begin with E."""
    lines = message.splitlines()
    return "\n".join([each[1:].strip() for each in lines if each.startswith("E ")] or lines[:5])


def _data(text: str) -> str:
    """A text as GitHub's workflow commands take it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
