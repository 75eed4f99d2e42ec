"""A real server as a process of its own: started, killed, started again on the same data."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from chowder_local.core.domain import release_order
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "CHOWDER_OPENCLAW_VERSION"
TAIL_LINES = 60
POLL = re.compile(r"request_log: GET \S+ 200 ")
# Warm sandboxes are for their own tests, and what a machine has must not decide about the others.
DEFAULTS = {
    "CHOWDER_WARM_POOL_SIZE": "0",
    "CHOWDER_WARM_POOL_MAX": "0",
    "CHOWDER_MAX_SANDBOXES": "16",
    # A run on a slow machine takes longer, and tests look into containers of idle agents.
    "CHOWDER_HIBERNATE_AFTER_S": "86400",
}
PORTS = range(20_000, 30_000)
"""Of these, a kernel gives none to whoever asks for any, so a server that is down keeps its own."""
UP_TIMEOUT_S = 60.0
DOWN_TIMEOUT_S = 30.0
HURRIED = Path(__file__).with_name("hurried_server.py")
RECONCILE_INTERVAL = "instances.lifecycle.reconciler:RECONCILE_INTERVAL_S"


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    while True:
        # Not by `random`, which begins anew with every test.
        port = secrets.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def is_before(release: str) -> bool:
    """Whether these tests are about an OpenClaw release before this one."""
    chosen = os.environ.get(VERSION)
    return chosen is not None and release_order(chosen) < release_order(release)


def bare_environment() -> dict[str, str]:
    """This process's environment without what would change a server or its models.

    CHOWDER_OPENCLAW_VERSION stays: with it, the tests are about another OpenClaw release.
    """
    unwanted = ("CHOWDER_", "ANTHROPIC_", "OPENAI_", "GEMINI_", "OLLAMA_")
    return {
        name: value
        for name, value in os.environ.items()
        if name == VERSION or not name.startswith(unwanted)
    }


class ServerProcess:
    """`chowder-local up` on a data directory and port that stay the same."""

    def __init__(
        self,
        data_dir: Path,
        settings: Mapping[str, str],
        constants: Mapping[str, float] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.constants = constants
        """Constants of the server by `module:NAME` that tests cannot wait for."""
        self.port = free_port()
        self.env = bare_environment() | DEFAULTS | dict(settings)
        self._log_file = data_dir.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def key(self) -> str:
        """The default organization's."""
        return (self.data_dir / "default.key").read_text()

    @property
    def store_id(self) -> str:
        return (self.data_dir / "store.id").read_text()

    def up(self) -> None:
        """Starts it and waits until it takes calls."""
        command = [*self.command(), "up", "--port", str(self.port)]
        with self._log_file.open("ab") as log:
            self._process = process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env
            )

        def is_ready() -> bool:
            assert process.poll() is None, f"the server ended at once:\n{self.log_tail()}"
            try:
                return httpx.get(f"http://127.0.0.1:{self.port}/local/ready").is_success
            except httpx.TransportError:
                return False

        eventually(is_ready, "the server is up", UP_TIMEOUT_S)

    def ensure_up(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self.up()

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self._end(signal.SIGKILL)

    def down(self) -> None:
        """Ends it as Ctrl-C would."""
        code = self._end(signal.SIGINT)
        assert code == 0, f"the server ended with {code}:\n{self.log_tail()}"

    def reset(self) -> None:
        """Removes all that it has, on disk and on the engine."""
        if self._process is not None and self._process.poll() is None:
            self.down()
        if self.data_dir.exists():
            subprocess.run([*self.command(), "reset", "--yes"], env=self.env, check=True)

    def command(self) -> list[str]:
        """How the command line is called for this data directory."""
        # -P: what lies in the current folder must not pass for one of our modules.
        program = ["-m", "chowder_local"]
        if self.constants:
            program = [str(HURRIED), json.dumps(self.constants)]
        return [sys.executable, "-P", *program, "--data-dir", str(self.data_dir)]

    def log(self) -> str:
        """All that its processes have said."""
        return self._log_file.read_text() if self._log_file.exists() else ""

    def log_tail(self) -> str:
        """The last of it."""
        lines = self.log().splitlines()
        # Polls would leave no room for anything else.
        return "\n".join([line for line in lines if not POLL.search(line)][-TAIL_LINES:])

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(DOWN_TIMEOUT_S)
