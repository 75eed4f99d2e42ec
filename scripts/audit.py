"""Asks what is publicly known against what a release ships, and judges the answers."""

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
NPM_FOLDERS = ("docker/sandbox", "docker/sandbox/channels", "docker/sandbox/flatten")
PIP_AUDIT = ("pip-audit", "--requirement", LOCK, "--disable-pip", "--require-hashes",
             "--format", "json", "--progress-spinner", "off")  # fmt: skip
NPM_AUDIT = ("npm", "audit", "--package-lock-only", "--json")

CLEAN, FOUND, EXCEPTION_BROKEN, NOT_ASKED = range(4)
FAILING_SEVERITIES = frozenset({"high", "critical", "unknown"})
LONGEST_EXCEPTION_DAYS = 90
TIMEOUT_S = 300


class NotAsked(Exception):
    """Somebody gave no answer, or not about everything."""


class ExceptionBroken(Exception):
    """An exception breaks the policy."""


@dataclass(frozen=True)
class Finding:
    """One advisory against one package of one lock file."""

    place: str
    package: str
    id: str
    severity: str
    words: str

    @property
    def fails(self) -> bool:
        """Whether a release may not go out with it."""
        return self.severity in FAILING_SEVERITIES


@dataclass(frozen=True)
class Exempt:
    """An advisory that a release may go out with until a day."""

    id: str
    package: str
    reason: str
    expires: date


def read_exceptions(text: str, today: date) -> list[Exempt]:
    """The exceptions file. Raises ExceptionBroken."""
    found = []
    for entry in tomllib.loads(text).get("exception", []):
        name = entry.get("id", "an entry without id")
        if entry.keys() != {"id", "package", "reason", "expires"}:
            raise ExceptionBroken(f"{name}: needs id, package, reason and expires, and no more")
        expires = entry["expires"]
        if type(expires) is not date or not str(entry["reason"]).strip():
            raise ExceptionBroken(f"{name}: needs a day to expire on, and a reason")
        if expires < today:
            raise ExceptionBroken(f"{name}: expired on {expires}; upgrade, or argue it anew")
        if expires > today + timedelta(days=LONGEST_EXCEPTION_DAYS):
            raise ExceptionBroken(f"{name}: may last {LONGEST_EXCEPTION_DAYS} days at most")
        found.append(Exempt(**entry))
    return found


def pip_findings(text: str) -> list[Finding]:
    """What pip-audit says. Raises NotAsked if it passed something over."""
    dependencies = _object(text, "pip-audit").get("dependencies")
    if not dependencies:
        raise NotAsked("pip-audit looked at nothing")
    # pip-audit ends with 0 all the same when the service knows nothing of a package.
    skipped = [each["name"] for each in dependencies if "skip_reason" in each]
    if skipped:
        raise NotAsked(f"pip-audit was told nothing about {len(skipped)} of {len(dependencies)}")
    return [
        Finding(LOCK, f"{each['name']} {each['version']}", known["id"], "unknown",
                f"fixed in {', '.join(known['fix_versions']) or 'no version yet'}")
        for each in dependencies
        for known in each["vulns"]
    ]  # fmt: skip


def npm_findings(text: str, folder: str) -> list[Finding]:
    """What npm audit says of one lock file. Raises NotAsked."""
    report = _object(text, "npm audit")
    if "vulnerabilities" not in report:
        words = report.get("message") or report.get("error") or "no report"
        raise NotAsked(f"npm audit of {folder}: {str(words)[:200]}")
    found = {}
    for name, vulnerable in report["vulnerabilities"].items():
        for known in vulnerable["via"]:
            # A bare name says that the fault is in that package, which has an entry of its own.
            if isinstance(known, dict):
                advisory = str(known["url"]).rpartition("/")[2]
                severity = str(known.get("severity") or "unknown")
                found[name, advisory] = Finding(folder, name, advisory, severity, known["title"])
    return list(found.values())


def judged(findings: Iterable[Finding], exceptions: Iterable[Exempt]) -> tuple[list[Finding], ...]:
    """What fails a release, and what does not; an exception is for one package's one advisory."""
    exempt = {(each.id, each.package) for each in exceptions}
    failing: list[Finding] = []
    passing: list[Finding] = []
    for finding in findings:
        is_exempt = (finding.id, finding.package.partition(" ")[0]) in exempt
        (failing if finding.fails and not is_exempt else passing).append(finding)
    return failing, passing


def idle(findings: Iterable[Finding], exceptions: Iterable[Exempt]) -> list[Exempt]:
    """Exceptions for what is not found any more."""
    found = {(each.id, each.package.partition(" ")[0]) for each in findings}
    return [each for each in exceptions if (each.id, each.package) not in found]


def main(run: Run, exceptions_text: str, today: date) -> int:
    """Asks everybody, prints what there is to know, gives the exit code."""
    try:
        exceptions = read_exceptions(exceptions_text, today)
    except (ExceptionBroken, tomllib.TOMLDecodeError) as broken:
        print(f"audit: {EXCEPTIONS.name}: {broken}", file=sys.stderr)
        return EXCEPTION_BROKEN
    findings, silent = _asked(run)
    failing, passing = judged(findings, exceptions)
    for words, listed in (("allowed", passing), ("FAILS", failing)):
        for each in listed:
            print(
                f"{words}: {each.place}: {each.package}: {each.id} ({each.severity}) {each.words}"
            )
    print(f"audit: {len(failing)} that fail a release, {len(passing)} allowed, {silent} not asked")
    if failing:
        return FOUND
    if silent:
        return NOT_ASKED
    for exempt in idle(findings, exceptions):
        print(f"audit: {exempt.id} is not found any more: take it out of {EXCEPTIONS.name}")
        return EXCEPTION_BROKEN
    return CLEAN


def _asked(run: Run) -> tuple[list[Finding], int]:
    """What was found, and how many have not answered."""
    findings: list[Finding] = []
    silent = 0
    questions = [partial(_ask_pip, run), *(partial(_ask_npm, run, each) for each in NPM_FOLDERS)]
    for ask in questions:
        try:
            findings += ask()
        except NotAsked as failure:
            silent += 1
            print(f"audit: COULD NOT ASK: {failure}", file=sys.stderr)
    return findings, silent


def _ask_pip(run: Run) -> list[Finding]:
    return pip_findings(run(PIP_AUDIT, ROOT))


def _ask_npm(run: Run, folder: str) -> list[Finding]:
    return npm_findings(run(NPM_AUDIT, ROOT / folder), folder)


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        raise NotAsked(f"{name} said nothing that can be read") from None
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
