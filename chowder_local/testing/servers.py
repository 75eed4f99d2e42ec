"""A server for tests: one that is there, or one that is started for them and ended after them."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from chowder_local.core.errors.process import ServerNotReady, SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PORT_TAKEN = 3
"""The exit code of `chowder-local up` for that."""

CONTAINER_TIMEOUT_S = 900.0
"""A first start of a server in a container may have to build the sandbox image."""

POLL_S = 0.2

MACHINE_VARIABLES = frozenset(
    {
        "CHOWDER_BASE_URL",
        "CHOWDER_CA_BUNDLE",
        "CHOWDER_DATA_DIR",
        "CHOWDER_HOST",
        "CHOWDER_KEY",
        "CHOWDER_KEY_FILE",
        "CHOWDER_PORT",
        "CHOWDER_PUBLIC_URL",
        "CHOWDER_RECORD",
        "CHOWDER_REPLAY",
        "CHOWDER_REPLIES",
    }
)
"""Addresses and paths of this machine, which mean nothing to a server in a container."""


@dataclass(frozen=True)
class Server:
    """Where a server is; `base_url` has `/v1`, and `key` is an organization's."""

    base_url: str
    key: str

    @classmethod
    def named(cls, env: Mapping[str, str]) -> Self | None:
        """The one that `CHOWDER_BASE_URL` and `CHOWDER_KEY` name, or the file CHOWDER_KEY_FILE.

        Raises SettingsInvalid if that cannot be read.
        """
        base_url, key, file = (
            env.get(name) for name in ("CHOWDER_BASE_URL", "CHOWDER_KEY", "CHOWDER_KEY_FILE")
        )
        if base_url and file and not key:
            try:
                key = Path(file).read_text().strip()
            except OSError as problem:
                raise SettingsInvalid(f"CHOWDER_KEY_FILE cannot be read: {problem}") from problem
        return cls(base_url.rstrip("/"), key) if base_url and key else None

    @classmethod
    def running(cls, env: Mapping[str, str]) -> Self | None:
        """The one that `chowder-local up` has started, if it is ready."""
        from chowder_local.client import Client

        server = cls._find([], env)
        if server is None:
            return None
        with Client(server.base_url, server.key) as client:
            return server if client.is_ready() else None

    @classmethod
    def start(cls, data_dir: Path, env: Mapping[str, str]) -> Self:
        """Starts one on a data directory of its own, at a free port, without any real model key.

        One that runs there already, of an earlier run, is as good. The sandbox image is built
        first if it is not there. Raises ServerNotReady with what `chowder-local up` says.
        """
        place = ["--data-dir", str(data_dir)]
        up = ["up", *place, "--detach", "--offline", "--port"]
        ended = _run_cli([*up, _port_of(place, env) or _free_port()], env)
        if ended.returncode != 0 and (ended.returncode == PORT_TAKEN or _port_of(place, env)):
            # Another process was quicker than the server.
            ended = _run_cli([*up, _port_of(place, env) or _free_port()], env)
        if ended.returncode != 0:
            raise ServerNotReady(f"No server for the tests: {ended.stderr.strip()}")
        server = cls._find(place, env)
        if server is None:
            raise ServerNotReady(f"The server for the tests on {data_dir} is gone.")
        return server

    @classmethod
    def _find(cls, place: Sequence[str], env: Mapping[str, str]) -> Self | None:
        """The server of a data directory, as the command line knows it."""
        found = _run_cli(["env", *place, "--format", "json"], env)
        if found.returncode != 0:
            return None
        variables = json.loads(found.stdout)
        return cls(variables["CHOWDER_BASE_URL"], variables["CHOWDER_KEY"])

    @staticmethod
    def stop(data_dir: Path, env: Mapping[str, str]) -> None:
        """Ends the one that was started there, with every agent and all data of it.

        Raises ServerNotReady with what `chowder-local reset` says.
        """
        ended = _run_cli(["reset", "--data-dir", str(data_dir), "--yes"], env)
        if ended.returncode != 0:
            raise ServerNotReady(f"The tests' server cannot be removed: {ended.stderr.strip()}")

    @classmethod
    def in_container(cls, data_dir: Path, env: Mapping[str, str]) -> Self:
        """Starts one in a container, as `start` does in a process; `data_dir` only tells it apart.

        The image is built first if it is not there, or of other code. Settings of the environment
        are passed on, but for those that are of this machine. Raises ServerNotReady,
        EngineUnavailable and ImageBuildFailed.
        """
        from chowder_local.core.settings import PREFIX, Settings
        from chowder_local.engine import server_container, server_image

        settings = Settings.read(env)
        if not server_image.is_current(settings, env):
            # An error quotes the steps of the build.
            server_image.build_server(settings, lambda _: None, env=env)
        chosen = {
            name: value
            for name, value in env.items()
            if name.startswith(PREFIX) and name not in MACHINE_VARIABLES
        }
        chosen["CHOWDER_OFFLINE"] = "true"
        name = _container_name(data_dir)
        server_container.run_server(name, server_image.server_tag(), chosen, env)
        deadline = time.monotonic() + CONTAINER_TIMEOUT_S
        while (seen := server_container.inspect_server(name, env)) and seen.is_running:
            if seen.port is not None and seen.key is not None:
                server = cls(f"http://127.0.0.1:{seen.port}/v1", seen.key)
                if server.is_healthy():
                    return server
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        reason = "it is gone" if seen is None else seen.log_tail
        raise ServerNotReady(f"No server for the tests in the container {name}: {reason}")

    @staticmethod
    def remove_container(data_dir: Path, env: Mapping[str, str]) -> None:
        """Ends the one that was started so, with every agent and all data of it.

        Raises EngineUnavailable.
        """
        from chowder_local.engine.server_container import remove_server

        remove_server(_container_name(data_dir), env)

    def is_healthy(self) -> bool:
        """Whether it takes calls, and agents can boot."""
        from chowder_local.client import Client

        with Client(self.base_url, self.key) as client:
            return client.is_ready() and client.health()["status"] == "ok"


def _container_name(data_dir: Path) -> str:
    return f"chowder-tests-{hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]}"


def _port_of(place: list[str], env: Mapping[str, str]) -> str | None:
    """Where a server runs on that data directory, which `up` is not to ask for elsewhere."""
    found = _run_cli(["status", *place, "--json"], env)
    if found.returncode != 0:
        return None
    return str(urlsplit(json.loads(found.stdout)["base_url"]).port)


def _free_port() -> str:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return str(tried.getsockname()[1])


def _run_cli(arguments: list[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs the command line as a process of its own: it belongs to another layer."""
    command = [sys.executable, "-m", "chowder_local", *arguments]
    return subprocess.run(  # noqa: S603 - our own program
        command, env=dict(env), capture_output=True, text=True, check=False
    )
