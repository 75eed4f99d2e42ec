"""The summary of a run, as GitHub reads it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from markdown_it import MarkdownIt

from chowder_local.testing.run_report import SHOWN_TRANSCRIPT, RunReport, facts_of_test
from chowder_local.trials.spending import Spending

if TYPE_CHECKING:
    from pathlib import Path


def test_a_long_transcript_of_a_failed_test_ends_within_its_details(tmp_path: Path) -> None:
    options = {"--chowder-update": False, "--chowder-baseline": None, "--chowder-report": None}
    config: Any = SimpleNamespace(rootpath=tmp_path, getoption=options.__getitem__)
    session: Any = SimpleNamespace(exitstatus=pytest.ExitCode.TESTS_FAILED)
    report = RunReport(config, {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")})
    place = ("test_a.py", 3, "test_a")
    failed: Any = pytest.TestReport("test_a.py::test_a[<b>]", place, {}, "failed", "E  no", "call")
    facts = facts_of_test(Spending(), 0.1, has_passed=False)
    sections = [("transcript of desk", "x" * SHOWN_TRANSCRIPT), ("log of desk", "the log")]
    failed.chowder_facts = {**facts, "sections": sections}
    report.pytest_runtest_logreport(failed)
    report.pytest_sessionfinish(session)
    markdown = MarkdownIt("commonmark", {"html": True})
    tokens = markdown.parse((tmp_path / "summary.md").read_text())
    html = [each.content for each in tokens if each.type == "html_block"]
    assert html[0] == "<details><summary>test_a.py::test_a[&lt;b&gt;]</summary>\n"
    assert html[-1].strip() == "</details>"
    texts = [each.content for each in tokens if each.type == "fence"]
    assert texts == ["E  no\n", "x" * (SHOWN_TRANSCRIPT // 2) + "\n", "the log\n"]
