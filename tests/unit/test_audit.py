"""The audit's judgement: what fails a release, what is allowed, and what was not asked at all."""

from __future__ import annotations

import json
import tomllib
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from scripts.audit import (
    CLEAN,
    EXCEPTION_BROKEN,
    EXCEPTIONS,
    FOUND,
    NOT_ASKED,
    NPM_FOLDERS,
    ROOT,
    main,
    read_exceptions,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TODAY = date(2026, 5, 4)
EXCEPTION = """
[[exception]]
id = "{id}"
package = "{package}"
reason = "Only reached by a parser that is not used."
expires = {expires}
"""
CLEAN_PIP = {"dependencies": [{"name": "httpx", "version": "1.0", "vulns": []}], "fixes": []}
BAD_PIP = {
    "dependencies": [
        {"name": "httpx", "version": "1.0",
         "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}]},
    ]
}  # fmt: skip
SILENT_PIP = {"dependencies": [{"name": "httpx", "skip_reason": "not found"}], "fixes": []}
CLEAN_NPM: dict[str, Any] = {"auditReportVersion": 2, "vulnerabilities": {}}
SILENT_NPM = {"message": "405 Method Not Allowed", "error": {"summary": "", "detail": ""}}


def bad_npm(severity: str) -> dict[str, Any]:
    advisory = {
        "name": "ws", "title": "Floods", "severity": severity,
        "url": "https://example.com/advisories/GHSA-1",
    }  # fmt: skip
    return {
        "vulnerabilities": {
            "ws": {"severity": severity, "via": [advisory]},
            "openclaw": {"severity": severity, "via": ["ws"]},
        }
    }


def judge(pip: object = CLEAN_PIP, npm: object = CLEAN_NPM, exceptions: str = "") -> int:
    def run(command: Sequence[str], _: Path) -> str:
        answer = pip if command[0] == "pip-audit" else npm
        return answer if isinstance(answer, str) else json.dumps(answer)

    return main(run, exceptions, TODAY)


def exception(id: str = "PYSEC-1", package: str = "httpx", expires: str = "2026-06-01") -> str:  # noqa: A002
    return EXCEPTION.format(id=id, package=package, expires=expires)


def test_nothing_known_is_clean() -> None:
    assert judge() == CLEAN


def test_anything_known_against_a_python_package_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(pip=BAD_PIP) == FOUND
    assert "FAILS: requirements.lock: httpx 1.0: PYSEC-1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("severity", "code"),
    [("low", CLEAN), ("moderate", CLEAN), ("high", FOUND), ("critical", FOUND)],
)
def test_of_the_image_what_is_high_or_critical_fails_and_the_rest_is_told(
    severity: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(npm=bad_npm(severity)) == code
    assert "docker/sandbox: ws: GHSA-1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pip", "npm"),
    [(SILENT_PIP, CLEAN_NPM), ({"dependencies": []}, CLEAN_NPM), ("", CLEAN_NPM),
     (CLEAN_PIP, SILENT_NPM), (CLEAN_PIP, "<html>"), (CLEAN_PIP, [])],
)  # fmt: skip
def test_who_could_not_be_asked_has_not_said_that_all_is_well(
    pip: object, npm: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(pip, npm) == NOT_ASKED
    assert "COULD NOT ASK" in capsys.readouterr().err


def test_what_is_found_counts_though_somebody_else_was_silent() -> None:
    assert judge(pip=BAD_PIP, npm=SILENT_NPM) == FOUND


def test_an_exception_lets_one_advisory_of_one_package_pass() -> None:
    assert judge(pip=BAD_PIP, exceptions=exception()) == CLEAN
    assert judge(pip=BAD_PIP, exceptions=exception(package="ws")) == FOUND


@pytest.mark.parametrize(
    "exceptions",
    [
        exception(expires="2026-05-03"),
        exception(expires="2026-09-01"),
        exception(expires='"never"'),
        exception().replace("Only reached by a parser that is not used.", " "),
        exception().replace("reason", "because"),
        exception(id="PYSEC-9"),
        "[[exception]",
    ],
    ids=["expired", "too long", "no day", "no reason", "no such member", "idle", "broken"],
)
def test_an_exception_that_does_not_hold_fails_the_audit(exceptions: str) -> None:
    assert judge(exceptions=exceptions) == EXCEPTION_BROKEN


def test_the_exceptions_file_is_one_that_can_be_read() -> None:
    # By the day of its earliest: that one has expired is for the audit to say, not for a test.
    text = EXCEPTIONS.read_text()
    days = [each["expires"] for each in tomllib.loads(text).get("exception", [])]
    assert len(read_exceptions(text, min(days, default=TODAY))) == len(days)


def test_every_lock_file_of_the_image_is_asked_about() -> None:
    found = {path.parent for path in (ROOT / "docker").rglob("package-lock.json")}
    assert found == {ROOT / folder for folder in NPM_FOLDERS}
