"""Pytest with our plugin, and commands, as a user runs them: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from coverage import Coverage

if TYPE_CHECKING:
    from tests.e2e.serving import ServerProcess

# Plugins of other packages in this environment, which load slowly.
UNRELATED = ("randomly", "langsmith_plugin", "llmock", "schemathesis", "hypothesispytest")
PYTEST = ("-m", "pytest", "-q", *(f"-pno:{each}" for each in UNRELATED))
ROOT = Path(__file__).parents[2]
RUN_TIMEOUT_S = 300


def run(
    folder: Path, server: ServerProcess | None, *options: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Pytest in a folder, against a server that its environment names, if any."""
    return subprocess.run(
        [*python(), *PYTEST, *options], cwd=folder, env=environment(folder, server) | env,
        capture_output=True, text=True, check=False, timeout=RUN_TIMEOUT_S,
    )  # fmt: skip


def begun(folder: Path) -> subprocess.Popen[str]:
    """The same, still on its way, and without a server."""
    return subprocess.Popen(
        [*python(), *PYTEST, "-s"], cwd=folder, env=environment(folder, None), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def python() -> list[str]:
    """Python, which counts what is run of the package if this process counts, too."""
    if Coverage.current() is None:
        return [sys.executable]
    counting = ["--rcfile", f"{ROOT}/pyproject.toml", "--data-file", f"{ROOT}/.coverage"]
    return [sys.executable, "-m", "coverage", "run", "--parallel-mode", *counting]


def environment(folder: Path, server: ServerProcess | None) -> dict[str, str]:
    named = {"CHOWDER_BASE_URL": server.base_url, "CHOWDER_KEY": server.key} if server else {}
    # A server that the plugin starts boots no warm sandboxes.
    own = {"HOME": str(folder), "CHOWDER_WARM_POOL_SIZE": "0"}
    return {"PATH": os.environ["PATH"], **own, **named}
