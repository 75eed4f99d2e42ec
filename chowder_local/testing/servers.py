"""A server for tests: one that is there, or one that is started for them and ended after them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from chowder_local.errors.process import ServerNotReady

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PORT_TAKEN = 3
"""The exit code of `chowder-local up` for that."""


@dataclass(frozen=True)
class Server:
    """Where a server is; `base_url` has `/v1`, and `key` is an organization's."""

    base_url: str
    key: str

    @classmethod
    def named(cls, env: Mapping[str, str]) -> Self | None:
        """The one that `CHOWDER_BASE_URL` and `CHOWDER_KEY` name."""
        base_url, key = env.get("CHOWDER_BASE_URL"), env.get("CHOWDER_KEY")
        return cls(base_url.rstrip("/"), key) if base_url and key else None

    @classmethod
    def running(cls, env: Mapping[str, str]) -> Self | None:
        """The one that `chowder-local up` has started, if it is ready."""
        from chowder_local.client import Client

        found = _asked(["env", "--format", "json"], env)
        if found.returncode != 0:
            return None
        facts = json.loads(found.stdout)
        server = cls(facts["CHOWDER_BASE_URL"], facts["CHOWDER_KEY"])
        with Client(server.base_url, server.key) as client:
            return server if client.is_ready() else None

    @classmethod
    def start(cls, data_dir: Path, env: Mapping[str, str]) -> Self:
        """Starts one on a data directory of its own, at a free port, without any real model key.

        One that runs there already, of an earlier run, is as good. The sandbox image is built
        first if it is not there. Raises ServerNotReady with what `chowder-local up` says.
        """
        place = ["--data-dir", str(data_dir)]
        begin = ["up", *place, "--detach", "--offline", "--port"]
        done = _asked([*begin, str(_free_port())], env)
        if done.returncode == PORT_TAKEN:
            # Another process was quicker than the server.
            done = _asked([*begin, str(_free_port())], env)
        if done.returncode != 0:
            raise ServerNotReady(f"No server for the tests: {done.stderr.strip()}")
        facts = json.loads(_asked(["env", *place, "--format", "json"], env).stdout)
        return cls(facts["CHOWDER_BASE_URL"], facts["CHOWDER_KEY"])

    @staticmethod
    def stop(data_dir: Path, env: Mapping[str, str]) -> None:
        """Ends the one that was started there, with every agent and all data of it.

        Raises ServerNotReady with what `chowder-local reset` says.
        """
        done = _asked(["reset", "--data-dir", str(data_dir), "--yes"], env)
        if done.returncode != 0:
            raise ServerNotReady(f"The tests' server cannot be removed: {done.stderr.strip()}")


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
        return port


def _asked(arguments: list[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The command line, as a process of its own: it belongs to another layer."""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "chowder_local", *arguments],
        env=dict(env), capture_output=True, text=True, check=False,
    )  # fmt: skip
