"""The check of the descriptors that a module of tests leaves open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE = """
import os, pytest

@pytest.fixture(scope={scope!r})
def kept():
    return [os.dup(0) for _ in range(200)]

def test_it(kept):
    pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is open")
@pytest.mark.parametrize(("scope", "code"), [("module", 1), ("session", 0)])
def test_a_module_fails_that_leaves_descriptors_open(tmp_path: Path, scope: str, code: int) -> None:
    leaking = tmp_path / "test_leak.py"
    leaking.write_text(MODULE.format(scope=scope))
    (tmp_path / "pytest.ini").write_text("[pytest]")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.descriptors", str(leaking)]
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stdout
    blamed = "test_leak.py leaves 200 descriptors open, and 64 may stay." in done.stdout
    assert blamed == bool(code)
