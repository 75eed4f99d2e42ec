"""Runs side by side: every test is run by one of them, and an interrupt ends all of them well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
MODULES = 6
ORDINARY = """
def test_first(noted): noted()
def test_second(noted): noted()
"""
ALONE = """
import pytest
pytestmark = pytest.mark.alone
def test_alone(noted): noted()
"""
CONFTEST = """
import fcntl, os, pytest

def pytest_configure(config):
    config.addinivalue_line("markers", "alone: nothing else runs")

@pytest.fixture(scope="session", autouse=True)
def place():
    yield
    with open("ends", "a") as ends:
        ends.write(f"{os.getpid()}\\n")

@pytest.fixture
def noted(request):
    def note():
        with open(request.config.getoption("--lane") / "lock") as lock, open("runs", "a") as runs:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                is_alone = False
            except BlockingIOError:
                is_alone = True
            runs.write(f"{os.getpid()} {request.node.nodeid} {is_alone}\\n")
    return note
"""
ENDLESS = """
import signal

def test_endless():
    open("begun", "x").close()
    signal.pause()
"""
FAILING = "def test_failing(): assert 1 == 2\n"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    return tmp_path


def lanes(folder: Path, count: int) -> subprocess.Popen[str]:
    env = os.environ | {
        "TEST_LANES": str(count),
        "PYTHONPATH": str(ROOT),
        # Others' plugins take seconds to import.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "lanes.py"), str(folder)],
        cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ran(folder: Path) -> Iterable[tuple[str, str, str]]:
    """Which process ran which test, and whether nothing ran beside it."""
    for line in (folder / "runs").read_text().splitlines():
        process, test, is_alone = line.split()
        yield process, test, is_alone


def test_every_test_is_run_once_and_a_module_by_one_process(suite: Path) -> None:
    for number in range(MODULES):
        (suite / f"test_{number}.py").write_text(ORDINARY)
    (suite / "test_alone.py").write_text(ALONE)
    with lanes(suite, 3) as running:
        said, _ = running.communicate()
    assert running.returncode == 0, said
    found = list(ran(suite))
    assert len(found) == len({test for _, test, _ in found}) == 2 * MODULES + 1
    places = {(process, test.partition("::")[0]) for process, test, _ in found}
    assert len(places) == MODULES + 1
    assert [test for _, test, is_alone in found if is_alone == "True"] == [
        "test_alone.py::test_alone"
    ]
    assert found[-1][1] == "test_alone.py::test_alone"


def test_a_failure_of_one_is_told_and_is_everybodys(suite: Path) -> None:
    (suite / "test_0.py").write_text(ORDINARY)
    (suite / "test_1.py").write_text(FAILING)
    with lanes(suite, 2) as running:
        said, _ = running.communicate()
    assert running.returncode == 1, said
    assert "| FAILED test_1.py::test_failing - assert 1 == 2\n" in said
    assert len(list(ran(suite))) == 2


def test_an_interrupt_ends_all_of_them_and_what_they_have_set_up(suite: Path) -> None:
    (suite / "test_0.py").write_text(ENDLESS)
    with lanes(suite, 2) as running:
        eventually((suite / "begun").exists, "the test has begun")
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate()
    assert running.returncode == 2, said
    assert "KeyboardInterrupt" in said
    assert len((suite / "ends").read_text().splitlines()) == 1
