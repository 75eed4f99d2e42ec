"""Runs the suite against a service, in a process of its own, and reports the drifts."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chowder_local.conformance import published
from chowder_local.conformance.drift import DriftFinding
from chowder_local.conformance.service import BASE_URL, KEY, READ_ONLY, TARGET
from chowder_local.core.addresses import free_port
from chowder_local.core.errors.process import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from chowder_local.conformance.service import Service


OF_JUDGED = {"CHOWDER_OPENCLAW_VERSION", "CHOWDER_FEATURES_OFF"}


@contextmanager
def local_service(data_dir: Path, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Base URL and key of a server with offline models, which is removed afterwards."""
    program = Path(sys.executable).with_name("chowder-local")
    # Settings for another server must not affect this one, but for what is to be judged.
    # A run makes few agents, so warm sandboxes would be wasted.
    own = {
        name: value
        for name, value in env.items()
        if name in OF_JUDGED or not name.startswith("CHOWDER_")
    }
    own["CHOWDER_WARM_POOL_SIZE"] = "0"

    def run(*arguments: str) -> str:
        command = [str(program), "--data-dir", str(data_dir), *arguments]
        done = subprocess.run(command, env=own, check=True, capture_output=True, text=True)  # noqa: S603 - our own
        return done.stdout

    try:
        run("up", "--detach", "--offline", "--port", str(free_port()))
        values = json.loads(run("env", "--format", "json"))
        yield values["CHOWDER_BASE_URL"], values["CHOWDER_KEY"]
    finally:
        run("reset", "--yes")


HEADERS = ("operation", "expected", "got", "entry", "test")
NOT_KNOWN = "none"


def as_json(run: Run, base_url: str, target: str, now: datetime) -> dict[str, Any]:
    """The report's content for programs."""
    return {
        "base_url": base_url,
        "judged_as": target,
        "at": now.isoformat(timespec="seconds"),
        "passed": run.count("passed"),
        "failed": run.count("failed"),
        "skipped": [each for each in run.tests if each["outcome"] == "skipped"],
        "drifts": [each.as_json() for each in run.findings],
        "calls_without_success": _without_success(run),
    }


def as_markdown(content: dict[str, Any], findings: Sequence[DriftFinding]) -> str:
    """The same for people; `content` is that of `as_json`."""
    known = [each for each in findings if each.entry is not None]
    unexplained = [each for each in findings if each.entry is None]
    skipped = content["skipped"]
    parts = [
        "# Drift report",
        f"{content['base_url']}, judged as {content['judged_as']}, at {content['at']}: "
        f"{content['passed']} tests passed, {content['failed']} failed, {len(skipped)} skipped.",
        f"## Drifts that no entry of the differences explains ({len(unexplained)})",
        _table(unexplained),
        f"## Known drifts ({len(known)})",
        _table(known),
        f"## Not judged ({len(skipped) + len(content['calls_without_success'])})",
        "\n".join(
            [f"- {each['test']}: {each['reason']}" for each in skipped]
            + [f"- `{each}` has not succeeded." for each in content["calls_without_success"]]
        )
        or "Everything was judged.",
    ]
    return "\n\n".join(parts) + "\n"


def _without_success(run: Run) -> list[str]:
    return sorted(set(published.read().calls) - set(run.operations))


def _table(findings: Iterable[DriftFinding]) -> str:
    rows = [
        (f"`{each.operation}`", each.expected, each.observed, each.entry or NOT_KNOWN, each.test)
        for each in findings
    ]
    if not rows:
        return "None."
    lines = [_line(HEADERS), _line(["---"] * len(HEADERS)), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


SUITE = Path(__file__).parent / "suite"


@dataclass(frozen=True)
class Run:
    """What a run has found.

    `tests` have `test`, `outcome`, and `reason` if they were skipped. `operations` are those that
    have succeeded at least once.
    """

    code: int
    tests: tuple[dict[str, str], ...]
    findings: tuple[DriftFinding, ...]
    operations: tuple[str, ...]

    @property
    def unexplained(self) -> tuple[DriftFinding, ...]:
        """The drifts that no entry of the differences explains."""
        return tuple(each for each in self.findings if each.entry is None)

    def count(self, outcome: str) -> int:
        return sum(each["outcome"] == outcome for each in self.tests)


def require_pytest() -> None:
    """Raises SettingsInvalid if pytest is not installed."""
    if find_spec("pytest") is None:
        raise SettingsInvalid(
            "The suite needs pytest. Install it with: pip install 'chowder-local[conformance]'"
        )


def run(
    service: Service,
    env: Mapping[str, str],
    *,
    is_read_only: bool = False,
    without: Sequence[str] = (),
) -> Run:
    """Runs the suite, or its part that only reads, and prints its progress.

    `without` are markers of tests to leave out. Raises SettingsInvalid if pytest cannot run it.
    """
    markers = READ_ONLY if is_read_only else " and ".join(f"not {each}" for each in without)
    with tempfile.TemporaryDirectory(prefix="chowder-conformance-") as folder:
        file = Path(folder) / "outcomes.json"
        code = _call(_command(file, markers), _env(service, env))
        if not file.exists():
            raise SettingsInvalid(f"pytest has ended with {code} before any test.")
        # Whatever its form is, the key must not get into a report.
        text = file.read_text("utf-8").replace(json.dumps(service.key)[1:-1], "…")
    content: dict[str, Any] = json.loads(text)
    return Run(
        code=code,
        tests=tuple(content["tests"]),
        findings=_distinct(DriftFinding(**each) for each in content["findings"]),
        operations=tuple(content["operations"]),
    )


def _command(file: Path, markers: str) -> list[str]:
    # -P: a folder of the user must not hide a module. The report says what pytest would.
    return [
        *(sys.executable, "-P", "-m", "pytest", str(SUITE), "-c", "/dev/null"),
        *("--rootdir", str(SUITE), "--import-mode", "importlib", "-p", "no:cacheprovider"),
        *("-p", "chowder_local.conformance.outcomes", f"--conformance-outcomes={file}"),
        *("-m", markers, "-q", "--tb", "no", "--show-capture", "no", "--no-summary"),
    ]


def _call(command: Sequence[str], env: Mapping[str, str]) -> int:
    with subprocess.Popen(command, env=env) as process:  # noqa: S603 - our own
        try:
            return process.wait()
        except KeyboardInterrupt:
            # pytest gets it as well, and then removes what the run has made.
            process.wait()
            raise


def _env(service: Service, env: Mapping[str, str]) -> dict[str, str]:
    # The user's own options and plugins of pytest must not affect the run.
    kept = {name: value for name, value in env.items() if not name.startswith("PYTEST_")}
    return kept | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        BASE_URL: service.base_url,
        KEY: service.key,
        TARGET: str(service.target),
    }


def _distinct(findings: Iterable[DriftFinding]) -> tuple[DriftFinding, ...]:
    """The findings without those that another test has found, too."""
    found: dict[tuple[str, str, str], DriftFinding] = {}
    for each in findings:
        found.setdefault((each.operation, each.expected, each.observed), each)
    return tuple(found.values())
