"""Clients that are written in JavaScript: their packages, and the process that runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Self

from tests.e2e.made_once import made_once
from tests.e2e.serving import bare_environment

CLIENTS = Path(__file__).parent / "clients"
INSTALL_TIMEOUT_S = 300
RUN_TIMEOUT_S = 300
STOP_TIMEOUT_S = 10
# No script: one would compile an optional package.
NPM_OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier",
               "--loglevel=error")  # fmt: skip


@cache
def node_modules() -> Path:
    """The folder with the locked packages."""
    files = [CLIENTS / "package.json", CLIENTS / "package-lock.json"]

    def install(place: Path) -> None:
        for file in files:
            shutil.copy(file, place)
        _npm(place, "ci")

    return made_once("packages", install, *(file.read_bytes() for file in files)) / "node_modules"


def packages_of(*names: str) -> Path:
    """The folder with these packages, which name their versions; for nightly tests."""
    place = made_once("packages", lambda place: _npm(place, "install", *names), *names)
    return place / "node_modules"


def _npm(place: Path, *words: str) -> None:
    done = subprocess.run(
        [tool("npm"), *words, *NPM_OPTIONS], cwd=place, capture_output=True, text=True,
        check=False, timeout=INSTALL_TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, f"npm {words}: {done.stdout}{done.stderr}"


class Programs:
    """One process that runs the programs of `clients/`, each as often as a test wants."""

    def __init__(self, folder: Path) -> None:
        for program in CLIENTS.glob("*.mjs"):
            shutil.copy(program, folder)
        (folder / "node_modules").symlink_to(node_modules())
        self._process = subprocess.Popen(
            [tool("node"), str(folder / "serve.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=bare_environment(),
        )
        self._reader = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.shutdown()
            self._process.stdout.close()

    def run(self, program: str, base_url: str, key: str, **asked: Any) -> Any:
        """What a program gives back, for the agent at a base URL; some ask for `asked`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        agent = {"baseURL": base_url, "apiKey": key}
        line = json.dumps({"program": program, "agent": agent, "asked": asked})
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        printed = self._reader.submit(self._process.stdout.readline)
        try:
            answer = json.loads(printed.result(RUN_TIMEOUT_S))
        except BaseException:
            # Its next answer would be taken for that of another program.
            self._process.kill()
            raise
        assert "result" in answer, f"{program}: {answer}"
        return answer["result"]


def tool(name: str) -> str:
    """Where a program of the machine is; without it the tests fail, they are not skipped."""
    path = shutil.which(name)
    assert path is not None, f"{name} is not on this machine; scripts/environment dev brings it"
    return path
