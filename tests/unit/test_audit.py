"""The audit: blocking findings, exceptions, and failed audits."""

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


def test_no_findings_are_clean() -> None:
    assert judge() == CLEAN


def test_any_finding_for_a_python_package_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(pip=BAD_PIP) == FOUND
    assert "FAILS: requirements.lock: httpx 1.0: PYSEC-1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("severity", "code"),
    [("low", CLEAN), ("moderate", CLEAN), ("high", FOUND), ("critical", FOUND)],
)
def test_high_and_critical_findings_of_the_image_block_and_others_are_printed(
    severity: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(npm=bad_npm(severity)) == code
    assert "docker/sandbox: ws: GHSA-1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pip", "npm"),
    [(SILENT_PIP, CLEAN_NPM), ({"dependencies": []}, CLEAN_NPM), ("", CLEAN_NPM),
     (CLEAN_PIP, SILENT_NPM), (CLEAN_PIP, "<html>"), (CLEAN_PIP, [])],
)  # fmt: skip
def test_a_failed_audit_is_not_clean(
    pip: object, npm: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(pip, npm) == NOT_ASKED
    assert "audit: FAILED" in capsys.readouterr().err


def test_findings_count_if_another_audit_failed() -> None:
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
def test_an_invalid_or_unused_exception_fails_the_audit(exceptions: str) -> None:
    assert judge(exceptions=exceptions) == EXCEPTION_BROKEN


def test_the_exceptions_file_is_valid() -> None:
    # On the earliest expiry: the audit reports an expired exception, not this test.
    text = EXCEPTIONS.read_text()
    days = [each["expires"] for each in tomllib.loads(text).get("exception", [])]
    assert len(read_exceptions(text, min(days, default=TODAY))) == len(days)


def test_every_lock_file_of_the_image_is_audited() -> None:
    found = {path.parent for path in (ROOT / "docker").rglob("package-lock.json")}
    assert found == {ROOT / folder for folder in NPM_FOLDERS}
