"""Tries an OpenClaw release, and reports what broke and what is different from the default one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.bench import UNMEASURED, open_bench
from benchmarks.releases import compare_releases
from chowder_local.cli.output import note, say
from chowder_local.core.domain import is_release
from chowder_local.core.errors import ChowderError
from chowder_local.core.settings import Settings
from chowder_local.engine import images
from chowder_local.engine.image_recipe import (
    CHANNELS_FILE,
    expected_tag,
    openclaw_version,
    recipe_of,
    versions_dir,
)
from chowder_local.openclaw.config.edits import SCHEMA_FILE
from chowder_local.openclaw.shortcuts import OBSERVATIONS_FILE, find_misfits, read_observations
from scripts.canary_report import (
    Failure,
    Release,
    SuiteResults,
    channel_names,
    column_names,
    read_junit,
    render,
    setting_paths,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.results import Measure

TESTS = (
    # The contract, forks and restores, conversations, and channels by a stand-in.
    "chowder_local/conformance/suite",
    "tests/e2e/agents/test_copies.py",
    "tests/e2e/agents/test_messages.py",
    "tests/e2e/agents/test_histories.py",
    "tests/e2e/agents/test_channels.py",
    "tests/e2e/agents/test_config.py",
    # What the server reads in prompts and databases.
    "tests/e2e/agents/test_offline_model.py",
    "tests/e2e/agents/test_reading.py",
    # OpenClaw's own plugins for messengers.
    "tests/e2e/agents/test_local_messengers.py",
    # What is done with shortcuts, and without them.
    "tests/e2e/test_warm_sandboxes.py",
    "tests/e2e/test_other_openclaw.py",
)
TEST_TIMEOUT_S = 1800
"""Some five times what the tests take on two free processors: what is ended hangs."""
REPEAT_TIMEOUT_S = 600
END_TIMEOUT_S = 120
"""For removing what interrupted tests have made."""
REPEATED = 10
"""The most failed tests that run again."""
TESTS_FAILED = 1
"""pytest's exit code."""


def release_of(tag: str, version: str, env: Mapping[str, str]) -> Release:
    """Reads what a release's image has."""
    (info,) = (each for each in images.list_images(env) if each.tag == tag)
    seen = read_observations(images.read_file(tag, OBSERVATIONS_FILE, env))
    schema = images.read_file(tag, SCHEMA_FILE, env)
    return Release(
        version,
        info.node_version,
        info.size_bytes,
        channel_names(images.read_file(tag, f"/opt/openclaw/{CHANNELS_FILE}", env)),
        frozenset(setting_paths(json.loads(schema or b"{}"))),
        column_names([] if seen is None else [seen.tables.conversations, seen.tables.state]),
        find_misfits(seen),
    )


def run_tests(
    names: Sequence[str], env: Mapping[str, str], timeout_s: float, *options: str
) -> SuiteResults:
    """Runs tests; a run that did not come to its end is a failure, too."""
    with TemporaryDirectory() as folder:
        junit = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={junit}", *options, *names]
        problem = _run(command, env, timeout_s)
        results = read_junit(junit.read_text("utf-8")) if junit.is_file() else SuiteResults()
    if problem is None:
        return results
    return replace(results, failures=(*results.failures, Failure("pytest", problem)))


def _run(command: Sequence[str], env: Mapping[str, str], timeout_s: float) -> str | None:
    """Why a run of pytest did not come to its end; None if it did."""
    with subprocess.Popen(command, env=dict(env)) as process:  # noqa: S603 - ours
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            # As by Ctrl-C, with which tests remove what they have made.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
            return f"it was not done within {timeout_s:.0f} s"
    return None if code in {0, TESTS_FAILED} else f"exit code {code}"


def run_again(results: SuiteResults, env: Mapping[str, str]) -> SuiteResults:
    """Runs failed tests once more, one by one: what then passes has failed for another reason."""
    names = [each.name for each in results.failures if "::" in each.name][:REPEATED]
    if not names:
        return results
    again = run_tests(names, env, REPEAT_TIMEOUT_S)
    failures = (replace(each, passed_alone=each.name in again.passed) for each in results.failures)
    return replace(results, failures=tuple(failures))


def measure(version: str, default: str, env: Mapping[str, str]) -> list[Measure] | str:
    """The release's figures beside the default's, or why there are none."""
    try:
        with open_bench(env, print, keep_image=True, is_quick=False) as bench:
            return compare_releases(bench, version, default)
    except UNMEASURED as reason:
        return str(reason) or type(reason).__name__


def try_release(version: str, env: Mapping[str, str]) -> tuple[list[str], bool]:
    """The report's lines, and whether nothing broke. Raises ChowderError if no image is built."""
    parts: dict[str, float] = {}

    @contextmanager
    def part(name: str) -> Iterator[None]:
        began_s = time.monotonic()
        note(f"canary: {name}")
        yield
        parts[name] = time.monotonic() - began_s
        note(f"canary: {name}: {parts[name]:.0f} s")

    default, settings = openclaw_version(), Settings()
    usual = expected_tag(settings)
    with part(f"the image of OpenClaw {version}"):
        tag = images.build(settings, print, env=env, version=version)
    if not images.is_there(usual, env):
        with part(f"the image of OpenClaw {default}"):
            images.build(settings, print, env=env)
    releases = release_of(usual, default, env), release_of(tag, version, env)
    chosen = {**env, "CHOWDER_OPENCLAW_VERSION": version, "CHOWDER_TEST_RENAMED": "1"}
    with part("the tests, two at a time"):
        results = run_tests(TESTS, chosen, TEST_TIMEOUT_S, "-n", "2")
    if results.failures:
        with part("the failed tests once more"):
            results = run_again(results, chosen)
    with part(f"measuring agents of both, {default} and {version}"):
        measures = measure(version, default, env)
    is_whole = all(each.passed_alone for each in results.failures)
    return render(*releases, results, measures, parts), is_whole


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
    # Otherwise the tests of a canary in the background would take no interruption.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if options:
            lock(version, env)
            return 0
        lines, is_whole = try_release(version, env)
    except ChowderError as failure:
        lines, is_whole = (
            [f"# OpenClaw {version}", "", "There is no image:", "", str(failure)],
            False,
        )
    report = Path(f"canary-{version}.md")
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    say(f"{'nothing broke' if is_whole else 'something broke'}: see {report}")
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))  # noqa: TID251 - a script of its own
