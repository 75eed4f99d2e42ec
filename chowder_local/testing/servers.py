"""The server of a test run: an existing one, or one that runs share and the last one ends."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from filelock import FileLock

from chowder_local.core.addresses import free_port
from chowder_local.core.errors.process import ServerNotReady, SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


@dataclass(eq=False, repr=False)
class ServerLeases:
    """A folder with a file for each run, named by its process id.

    The file has the kind of server, and the start time of the process, because process ids are used
    again. Runs of one project may share a server. It is started and ended within a lock, so that no
    run gets a server that another run is about to end.
    """

    folder: Path

    def __post_init__(self) -> None:
        self._lock = FileLock(self.folder.with_suffix(".lock"))

    @contextmanager
    def take(self, run: int, kind: str) -> Iterator[None]:
        """Takes a lease for the process `run`; the server is to be started within this context."""
        with self._lock:
            self.folder.mkdir(exist_ok=True)
            # Before the start, so that a server that fails to start is ended as well.
            (self.folder / str(run)).write_text(f"{kind} {_start_time(run)}")
            yield

    def release(self, run: int, end: Callable[[str], None]) -> None:
        """Removes the leases of `run` and of killed runs, and ends servers without a lease."""
        if not self._ended(run):
            # Not within the lock: another run may hold it to build an image.
            return
        with self._lock:
            ended = self._ended(run)
            unused = {_kind(lease) for lease in ended}
            for lease in ended:
                lease.unlink()
            unused -= {_kind(lease) for lease in self._all()}
            for kind in sorted(unused):
                end(kind)

    def _ended(self, run: int) -> list[Path]:
        """The leases of the run, and those of killed runs."""
        return [lease for lease in self._all() if int(lease.name) == run or not _is_running(lease)]

    def _all(self) -> list[Path]:
        # Desktops add files of their own to folders, such as .DS_Store.
        return [each for each in self.folder.glob("*") if each.name.isdecimal()]


def _kind(lease: Path) -> str:
    return lease.read_text().partition(" ")[0]


def _is_running(lease: Path) -> bool:
    try:
        _, _, start_time = lease.read_text().partition(" ")
    except FileNotFoundError:
        # The lease's run has just released it.
        return True
    return start_time == _start_time(int(lease.name))


def _start_time(process: int) -> str | None:
    """The start time of a process, which tells it from others of its id; None without a process."""
    import psutil

    try:
        # Unlike psutil's time, the kernel's does not change with the clock.
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        try:
            return f"{psutil.Process(process).create_time():.0f}"
        except psutil.NoSuchProcess:
            return None
    return stat.rpartition(")")[2].split()[19]


__tracebackhide__ = True

PORT_TAKEN = 3
"""The exit code of `chowder-local up` if its port is taken."""

CONTAINER_TIMEOUT_S = 900.0
"""The first start in a container may have to build the sandbox image."""

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
"""Settings with addresses and paths of this machine, which a server in a container cannot use."""


@dataclass(frozen=True)
class Server:
    """The address of a server, with `/v1`, and the key of an organization."""

    base_url: str
    key: str

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Self | None:
        """The server in CHOWDER_BASE_URL, with the key in CHOWDER_KEY or CHOWDER_KEY_FILE.

        Raises SettingsInvalid if the key file cannot be read.
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
        """The server of the data directory, if it is ready."""
        from chowder_local.client import Client

        server = cls._find([], env)
        if server is None:
            return None
        with Client(server.base_url, server.key) as client:
            return server if client.is_ready() else None

    @classmethod
    def start(cls, data_dir: Path, env: Mapping[str, str]) -> Self:
        """Starts a server with offline models on a data directory and a free port.

        The server of an earlier run is used again if it still runs. The sandbox image is built if
        it is missing. Raises ServerNotReady with the message of `chowder-local up` if that fails.
        """
        option = ["--data-dir", str(data_dir)]
        up = ["up", *option, "--detach", "--offline", "--port"]
        done = _run_cli([*up, _port_of(option, env) or str(free_port())], env)
        if done.returncode != 0 and (done.returncode == PORT_TAKEN or _port_of(option, env)):
            # Another process took the port or started the server first.
            done = _run_cli([*up, _port_of(option, env) or str(free_port())], env)
        if done.returncode != 0:
            raise ServerNotReady(f"No server for the tests: {done.stderr.strip()}")
        server = cls._find(option, env)
        if server is None:
            raise ServerNotReady(f"The server for the tests on {data_dir} is gone.")
        return server

    @classmethod
    def _find(cls, option: Sequence[str], env: Mapping[str, str]) -> Self | None:
        """The server of a data directory, running or not, from `chowder-local env`."""
        done = _run_cli(["env", *option, "--format", "json"], env)
        if done.returncode != 0:
            return None
        variables = json.loads(done.stdout)
        return cls(variables["CHOWDER_BASE_URL"], variables["CHOWDER_KEY"])

    @staticmethod
    def stop(data_dir: Path, env: Mapping[str, str]) -> None:
        """Stops the server of `start`, and removes its agents and data.

        Raises ServerNotReady with the message of `chowder-local reset` if that fails.
        """
        done = _run_cli(["reset", "--data-dir", str(data_dir), "--yes"], env)
        if done.returncode != 0:
            raise ServerNotReady(f"The tests' server cannot be removed: {done.stderr.strip()}")

    @classmethod
    def in_container(cls, data_dir: Path, env: Mapping[str, str]) -> Self:
        """Starts a server with offline models in a container; `data_dir` only gives it a name.

        The server image is built if it is missing or of other code. The container gets the settings
        of the environment, except MACHINE_VARIABLES. Raises ServerNotReady if the server does not
        become healthy, EngineUnavailable without an engine, and ImageBuildFailed.
        """
        from chowder_local.core.data_dir_layout import PREFIX
        from chowder_local.core.settings import Settings
        from chowder_local.engine import server_container

        settings = Settings.read(env)
        if not server_container.is_current(settings, env):
            # Progress is not shown; an error quotes the steps of the build.
            server_container.build_server(settings, lambda _: None, env=env)
        variables = {
            name: value
            for name, value in env.items()
            if name.startswith(PREFIX) and name not in MACHINE_VARIABLES
        }
        variables["CHOWDER_OFFLINE"] = "true"
        name = _container_name(data_dir)
        server_container.run_server(name, server_container.server_tag(), variables, env)
        deadline = time.monotonic() + CONTAINER_TIMEOUT_S
        while (state := server_container.inspect_server(name, env)) and state.is_running:
            if state.port is not None and state.key is not None:
                server = cls(f"http://127.0.0.1:{state.port}/v1", state.key)
                if server.is_healthy():
                    return server
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        reason = "it is gone" if state is None else state.log_tail
        raise ServerNotReady(f"No server for the tests in the container {name}: {reason}")

    @staticmethod
    def remove_container(data_dir: Path, env: Mapping[str, str]) -> None:
        """Removes the server of `in_container`, with its agents and data.

        Raises EngineUnavailable if the engine does not answer.
        """
        from chowder_local.engine.server_container import remove_server

        remove_server(_container_name(data_dir), env)

    def is_healthy(self) -> bool:
        """Whether the server takes calls and agents can boot."""
        from chowder_local.client import Client

        with Client(self.base_url, self.key) as client:
            return client.is_ready() and client.health()["status"] == "ok"


def _container_name(data_dir: Path) -> str:
    return f"chowder-tests-{hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]}"


def _port_of(option: list[str], env: Mapping[str, str]) -> str | None:
    """The port of the server that runs on a data directory; `up` must name the same one."""
    done = _run_cli(["status", *option, "--json"], env)
    if done.returncode != 0:
        return None
    return str(urlsplit(json.loads(done.stdout)["base_url"]).port)


def _run_cli(arguments: list[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs the command line as a process, because this layer must not import it."""
    command = [sys.executable, "-m", "chowder_local", *arguments]
    return subprocess.run(  # noqa: S603 - our own program
        command, env=dict(env), capture_output=True, text=True, check=False
    )
