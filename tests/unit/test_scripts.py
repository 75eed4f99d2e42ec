"""The project's own scripts do what a release needs of them; what they are made of has no tests."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING

from benchmarks.forking import outcome
from benchmarks.report import as_json, markdown
from benchmarks.results import Measure
from scripts.audit import CLEAN, FOUND, main
from scripts.canary_report import Failure, Release, SuiteResults, render

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def test_a_benchmark_says_whether_its_goal_is_met() -> None:
    taken = {
        "fork": [{"ms": 300.0}, {"ms": 300.0}],
        "both": [{"create": 40.0, "copy": 160.0, "mb": 20.0}] * 2,
    }
    row = outcome(taken, rounds=2, warm_up=1)
    (told,) = as_json([row], {}, {})["rows"]
    assert told["measures"][0]["is_met"] is True
    machine = {"date": "2026-05-04", "cpu_count": 2, "cpu_model": "x", "memory_gib": 24}
    machine |= {"kernel": "6.1", "engine": "Docker 28", "openclaw": "2026.9.6", "version": "0.1.0"}
    assert "| 300 ms | 200 ms (a warm create and the copy) | 1.50 × |" in markdown([row], machine)


def test_the_audit_blocks_a_release_with_a_vulnerable_package() -> None:
    def judge(*vulnerabilities: object) -> int:
        pip = {"dependencies": [{"name": "httpx", "version": "1.0", "vulns": vulnerabilities}]}
        npm = {"auditReportVersion": 2, "vulnerabilities": {}}

        def run(command: Sequence[str], _: Path) -> str:
            return json.dumps(pip if command[0] == "pip-audit" else npm)

        return main(run, "", date(2026, 5, 4))

    assert judge() == CLEAN
    found = {"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}
    assert judge(found) == FOUND


def test_the_canary_tells_what_a_release_breaks() -> None:
    nothing = frozenset[str]()
    default, tried = (
        Release(version, node, 10**9, nothing, nothing, nothing, {})
        for version, node in (("2026.9.6", "24.1.0"), ("2026.9.7", "26.1.0"))
    )
    results = SuiteResults(nothing, (Failure("a", "no"), Failure("b", "no", passed_alone=True)))
    boot = Measure("boot", "s", 9, 6, default.version, rounds=3)
    lines = render(default, tried, results, [boot], {"the tests": 90})
    assert "| Node | 24.1.0 | 26.1.0 |" in lines
    assert any("**1 of 2 tests fail**" in each for each in lines)
