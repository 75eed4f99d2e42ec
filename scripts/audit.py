"""Audits the locked packages of a release for known vulnerabilities."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Run = Callable[[Sequence[str], Path], str]

ROOT = Path(__file__).parent.parent
EXCEPTIONS = ROOT / "scripts" / "audit-exceptions.toml"
LOCK = "requirements.lock"
NPM_FOLDERS = (
    "docker/sandbox",
    "docker/sandbox/channels",
    "docker/sandbox/flatten",
    "docker/versions/2026.8.2",
    "docker/versions/2026.8.2/channels",
    "docker/versions/2026.9.5",
    "docker/versions/2026.9.5/channels",
)
PIP_AUDIT = ("pip-audit", "--requirement", LOCK, "--disable-pip", "--require-hashes",
             "--format", "json", "--progress-spinner", "off")  # fmt: skip
NPM_AUDIT = ("npm", "audit", "--package-lock-only", "--json")

CLEAN, FOUND, EXCEPTION_BROKEN, NOT_ASKED = range(4)
FAILING_SEVERITIES = frozenset({"high", "critical", "unknown"})
LONGEST_EXCEPTION_DAYS = 90
TIMEOUT_S = 300


class NotAsked(Exception):
    """A service gave no answer, or no complete one."""


class ExceptionBroken(Exception):
    """An exception breaks the policy."""


@dataclass(frozen=True)
class Finding:
    """One advisory against one package of one lock file."""

    place: str
    package: str
    id: str
    severity: str
    title: str

    @property
    def fails(self) -> bool:
        """Whether it blocks a release."""
        return self.severity in FAILING_SEVERITIES


@dataclass(frozen=True)
class Exempt:
    """An advisory that does not block a release until a day."""

    id: str
    package: str
    reason: str
    expires: date


def read_exceptions(text: str, today: date) -> list[Exempt]:
    """Parses the exceptions file. Raises ExceptionBroken if an entry breaks the policy."""
    exceptions = []
    for entry in tomllib.loads(text).get("exception", []):
        name = entry.get("id", "an entry without id")
        if entry.keys() != {"id", "package", "reason", "expires"}:
            raise ExceptionBroken(
                f"{name}: needs id, package, reason and expires, and nothing else"
            )
        expires = entry["expires"]
        if type(expires) is not date or not str(entry["reason"]).strip():
            raise ExceptionBroken(f"{name}: needs a date in expires, and a reason")
        if expires < today:
            raise ExceptionBroken(
                f"{name}: expired on {expires}; upgrade the package, or give a new reason and date"
            )
        if expires > today + timedelta(days=LONGEST_EXCEPTION_DAYS):
            raise ExceptionBroken(f"{name}: may last {LONGEST_EXCEPTION_DAYS} days at most")
        exceptions.append(Exempt(**entry))
    return exceptions


def pip_findings(text: str) -> list[Finding]:
    """The findings of pip-audit. Raises NotAsked if it skipped a package."""
    dependencies = _object(text, "pip-audit").get("dependencies")
    if not dependencies:
        raise NotAsked("pip-audit checked no packages")
    # pip-audit ends with 0 even if the service does not know a package.
    skipped = [each["name"] for each in dependencies if "skip_reason" in each]
    if skipped:
        raise NotAsked(f"pip-audit skipped {len(skipped)} of {len(dependencies)} packages")
    return [
        Finding(LOCK, f"{each['name']} {each['version']}", entry["id"], "unknown",
                f"fixed in {', '.join(entry['fix_versions']) or 'no version yet'}")
        for each in dependencies
        for entry in each["vulns"]
    ]  # fmt: skip


def npm_findings(text: str, folder: str) -> list[Finding]:
    """The findings of npm audit for one lock file. Raises NotAsked if it has no report."""
    report = _object(text, "npm audit")
    if "vulnerabilities" not in report:
        reason = report.get("message") or report.get("error") or "no report"
        raise NotAsked(f"npm audit of {folder}: {str(reason)[:200]}")
    findings = {}
    for name, vulnerable in report["vulnerabilities"].items():
        for entry in vulnerable["via"]:
            # A plain name refers to another package, which has its own entry.
            if isinstance(entry, dict):
                advisory = str(entry["url"]).rpartition("/")[2]
                severity = str(entry.get("severity") or "unknown")
                findings[name, advisory] = Finding(folder, name, advisory, severity, entry["title"])
    return list(findings.values())


def judge(findings: Iterable[Finding], exceptions: Iterable[Exempt]) -> tuple[list[Finding], ...]:
    """The findings that block a release, and the others."""
    exempt = {(each.id, each.package) for each in exceptions}
    failing: list[Finding] = []
    passing: list[Finding] = []
    for finding in findings:
        is_exempt = (finding.id, finding.package.partition(" ")[0]) in exempt
        (failing if finding.fails and not is_exempt else passing).append(finding)
    return failing, passing


def unused(findings: Iterable[Finding], exceptions: Iterable[Exempt]) -> list[Exempt]:
    """The exceptions without a finding."""
    pairs = {(each.id, each.package.partition(" ")[0]) for each in findings}
    return [each for each in exceptions if (each.id, each.package) not in pairs]


def main(run: Run, exceptions_text: str, today: date) -> int:
    """Runs the audits, prints the findings, and returns the exit code."""
    try:
        exceptions = read_exceptions(exceptions_text, today)
    except (ExceptionBroken, tomllib.TOMLDecodeError) as broken:
        print(f"audit: {EXCEPTIONS.name}: {broken}", file=sys.stderr)
        return EXCEPTION_BROKEN
    findings, failures = _audit(run)
    failing, passing = judge(findings, exceptions)
    for verdict, listed in (("allowed", passing), ("FAILS", failing)):
        for each in listed:
            print(
                f"{verdict}: {each.place}: {each.package}: {each.id} ({each.severity}) {each.title}"
            )
    print(
        f"audit: {len(failing)} block a release, {len(passing)} allowed, {failures} audits failed"
    )
    if failing:
        return FOUND
    if failures:
        return NOT_ASKED
    for exempt in unused(findings, exceptions):
        print(f"audit: {exempt.id} is not found any more: remove it from {EXCEPTIONS.name}")
        return EXCEPTION_BROKEN
    return CLEAN


def _audit(run: Run) -> tuple[list[Finding], int]:
    """The findings, and the number of failed audits."""
    findings: list[Finding] = []
    failures = 0
    audits = [partial(_audit_pip, run), *(partial(_audit_npm, run, each) for each in NPM_FOLDERS)]
    for audit in audits:
        try:
            findings += audit()
        except NotAsked as failure:
            failures += 1
            print(f"audit: FAILED: {failure}", file=sys.stderr)
    return findings, failures


def _audit_pip(run: Run) -> list[Finding]:
    return pip_findings(run(PIP_AUDIT, ROOT))


def _audit_npm(run: Run, folder: str) -> list[Finding]:
    return npm_findings(run(NPM_AUDIT, ROOT / folder), folder)


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        raise NotAsked(f"{name} printed no JSON") from None
    return content if isinstance(content, dict) else {}


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise NotAsked(f"{command[0]} cannot be run: {failure}") from failure
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(_run, EXCEPTIONS.read_text(), datetime.now(UTC).date()))
