"""Tries an OpenClaw release, and reports what broke and what is different from the default one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import connect
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from chowder_local.core.errors import ChowderError
from chowder_local.core.release import is_release
from chowder_local.core.settings import Settings
from chowder_local.engine import images
from chowder_local.engine.image_recipe import (
    expected_tag,
    openclaw_version,
    recipe_of,
    versions_dir,
)
from chowder_local.openclaw.config.schema import SCHEMA_FILE
from chowder_local.openclaw.shortcuts.catalogue import find_misfits
from chowder_local.openclaw.shortcuts.observations import OBSERVATIONS_FILE, read_observations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BLANK_FILE = "/opt/openclaw/blank.sqlite"
TESTS = (
    # The contract, forks and restores, conversations, and channels by a stand-in.
    "chowder_local/conformance/suite",
    "tests/e2e/agents/test_copies.py",
    "tests/e2e/agents/test_messages.py",
    "tests/e2e/agents/test_histories.py",
    "tests/e2e/agents/test_channels.py",
    "tests/e2e/agents/test_config.py",
    # What is done without shortcuts.
    "tests/e2e/test_other_openclaw.py",
)
BENCHMARKS = ("create-cold", "first-message", "message", "memory")
TEST_TIMEOUT_S = 600
BENCHMARK_TIMEOUT_S = 180
SHOWN = 40
"""The most lines of a list in the report."""


@dataclass(frozen=True)
class Failure:
    """A test that did not pass."""

    name: str
    message: str


@dataclass(frozen=True)
class Shape:
    """What a release's image has: its Node, the paths of its configuration, its tables' columns."""

    node: str
    settings: frozenset[str]
    columns: frozenset[str]


def setting_paths(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The paths of a JSON schema's properties, with dots."""
    for name, below in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path
        yield from setting_paths(below, f"{path}.")


def table_columns(content: bytes) -> frozenset[str]:
    """`table.column` of each column of an SQLite file."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "database"
        file.write_bytes(content)
        with closing(connect(file)) as database:
            rows = database.execute(
                "SELECT t.name || '.' || c.name FROM sqlite_master t, pragma_table_info(t.name) c "
                "WHERE t.type = 'table'"
            )
            return frozenset(name for (name,) in rows)


def failures(junit: str) -> list[Failure]:
    """The failed tests in pytest's JUnit report."""
    found = []
    for case in ElementTree.fromstring(junit).iter("testcase"):  # noqa: S314 - our own file
        for kind in ("failure", "error"):
            if (problem := case.find(kind)) is not None:
                name = f"{case.get('classname')}::{case.get('name')}"
                found.append(Failure(name, (problem.get("message") or "").split("\n")[0][:200]))
    return found


def differences(title: str, before: frozenset[str], after: frozenset[str]) -> list[str]:
    """Lines about what one set has and the other has not."""
    lines = [f"## {title}", ""]
    for word, names in (("New", after - before), ("Gone", before - after)):
        shown = [f"- {word}: `{name}`" for name in sorted(names)[:SHOWN]]
        more = len(names) - len(shown)
        lines += [*shown, *([f"- {word}: {more} more"] if more > 0 else [])]
    return [*lines, *([] if before != after else ["No difference."]), ""]


def shape_of(tag: str, version: str, env: Mapping[str, str]) -> Shape:
    """Reads it from an image."""
    schema = images.read_file(tag, SCHEMA_FILE, env)
    blank = images.read_file(tag, BLANK_FILE, env)
    return Shape(
        recipe_of(version).versions["NODE_VERSION"],
        frozenset(setting_paths(json.loads(schema or b"{}"))),
        frozenset() if blank is None else table_columns(blank),
    )


def run(command: Sequence[str], env: Mapping[str, str], timeout_s: float) -> str | None:
    """Runs a command to its end; returns why it failed, or None."""
    try:
        done = subprocess.run(command, env=dict(env), timeout=timeout_s, check=False)  # noqa: S603 - ours
    except subprocess.TimeoutExpired:
        return f"it was not done within {timeout_s:.0f} s"
    return None if done.returncode == 0 else f"exit code {done.returncode}"


def run_tests(env: Mapping[str, str]) -> list[Failure]:
    with TemporaryDirectory() as folder:
        junit = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={junit}", *TESTS]
        problem = run(command, {**env, "CHOWDER_TEST_RENAMED": "1"}, TEST_TIMEOUT_S)
        if not junit.is_file():
            return [Failure("the tests", problem or "there is no report")]
        return failures(junit.read_text("utf-8"))


def run_benchmarks(env: Mapping[str, str], file: Path) -> str:
    command = [sys.executable, "-P", "-m", "benchmarks", "--rounds", "2", *BENCHMARKS]
    problem = run([*command, "--markdown", str(file)], env, BENCHMARK_TIMEOUT_S)
    return file.read_text("utf-8") if file.is_file() else f"Not measured: {problem}.\n"


def try_release(version: str, env: Mapping[str, str]) -> tuple[list[str], bool]:
    """The report's lines, and whether nothing broke."""
    default, settings = openclaw_version(), Settings()
    began_s = time.monotonic()
    lines = [f"# OpenClaw {version}, beside {default}", ""]
    try:
        tag = images.build(settings, print, env=env, version=version)
    except ChowderError as failure:
        return [*lines, f"The image could not be built: {failure}"], False
    built_s = time.monotonic() - began_s
    usual = expected_tag(settings)
    if not images.is_there(usual, env):
        images.build(settings, print, env=env)
    before, after = shape_of(usual, default, env), shape_of(tag, version, env)
    off = find_misfits(read_observations(images.read_file(tag, OBSERVATIONS_FILE, env)))
    chosen = {**env, "CHOWDER_OPENCLAW_VERSION": version}
    failed = run_tests(chosen)
    with TemporaryDirectory() as folder:
        tables = [
            (title, run_benchmarks(each, Path(folder) / f"{number}.md"))
            for number, (title, each) in enumerate([(default, env), (version, chosen)])
        ]
    lines += [
        f"The image is built ({built_s:.0f} s): `{tag}`, with Node {after.node} "
        f"({default}: {before.node}).",
        "",
        f"## Tests that failed ({len(failed)})",
        "",
        *(f"- `{each.name}`: {each.message}" for each in failed),
        "",
        f"## Shortcuts that are off ({len(off)})",
        "",
        *(f"- {name}: {reason}" for name, reason in off.items()),
        "",
        *differences("Configuration", before.settings, after.settings),
        *differences("Tables of the shared database", before.columns, after.columns),
    ]
    for title, table in tables:
        lines += [f"## Measured with {title}", "", table]
    lines.append(f"All of it took {(time.monotonic() - began_s) / 60:.0f} minutes.")
    return lines, not failed


def lock(version: str, env: Mapping[str, str]) -> None:
    """Pins a release's packages in the checkout."""
    files = images.resolve(recipe_of(version), Settings(), print, env=env)
    for name, content in files.items():
        path = versions_dir() / version / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def main(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    version, *options = arguments or [""]
    if not is_release(version) or options not in ([], ["--lock"]):
        sys.stderr.write("usage: scripts/canary VERSION [--lock], such as 2026.9.5\n")
        return 2
    if options:
        lock(version, env)
        return 0
    lines, is_whole = try_release(version, env)
    report = Path(f"canary-{version}.md")
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write(f"{'nothing broke' if is_whole else 'something broke'}: see {report}\n")
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))  # noqa: TID251 - a script of its own
