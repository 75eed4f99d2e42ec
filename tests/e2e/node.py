"""Clients that are written in JavaScript: their packages, and their programs as processes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.serving import bare_environment

CLIENTS = Path(__file__).parent / "clients"
INSTALL_TIMEOUT_S = 300
RUN_TIMEOUT_S = 120
NPM_CI = ("ci", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")


def install_clients() -> None:
    """Brings the locked packages, unless they are there from an earlier run."""
    manifest, locked = CLIENTS / "package.json", CLIENTS / "package-lock.json"
    wanted = hashlib.sha256(manifest.read_bytes() + locked.read_bytes()).hexdigest()
    # Inside the folder that npm removes first: an installation that broke off has no stamp.
    stamp = CLIENTS / "node_modules" / ".installed"
    with locked.open("rb") as lock:
        # Another run of pytest may be at it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        command = [tool("npm"), *NPM_CI]
        done = subprocess.run(
            command, cwd=CLIENTS, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
        )
        assert done.returncode == 0, f"npm ci: {done.stdout}{done.stderr}"
        stamp.write_text(wanted)


def run_client(program: str, base_url: str, key: str, **asked: Any) -> dict[str, Any]:
    """What a program of `clients/` prints, for the agent at a base URL; some ask for `asked`."""
    env = bare_environment() | {"AGENT_URL": base_url, "AGENT_KEY": key}
    env["AGENT_ASKED"] = json.dumps(asked)
    done = subprocess.run(
        [tool("node"), str(CLIENTS / program)],
        env=env,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
    )
    assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def tool(name: str) -> str:
    """Where a program of the machine is; without it the tests fail, they are not skipped."""
    path = shutil.which(name)
    assert path is not None, f"{name} is not on this machine; scripts/environment dev brings it"
    return path
