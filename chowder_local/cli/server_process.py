"""The process of a data directory's server: finding, starting and stopping it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from filelock import FileLock, Timeout

from chowder_local.cli.exit_codes import FAILURE
from chowder_local.cli.output import waiting
from chowder_local.core.data_dir import opened_log
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.process import (
    DataDirUnusable,
    ServerNotReady,
    ServerOfContainer,
    ServerStuck,
)
from chowder_local.engine.container_detection import is_in_container

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chowder_local.core.settings import Settings

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.05
READY_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 5.0
QUOTED_LINES = 10
FIRST_PROCESS = Path("/proc/1/cmdline")


class ServerFailed(click.ClickException):
    """The server that was started ended at once; its message and exit code are passed on."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click itself sets it like this


@dataclass(frozen=True)
class RunningServer:
    """A server as it describes itself in its data directory; `root_url` has no `/v1`."""

    pid: int
    root_url: str
    version: str
    providers: Mapping[str, str] = field(default_factory=dict)
    """The URLs of those that it was started with, by name."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What it runs with, as `effective_settings` has it."""
    published_url: str | None = None

    @property
    def public_url(self) -> str:
        """Where clients find it, without `/v1`: elsewhere than we do if it is in a container."""
        return self.published_url or self.root_url

    @property
    def base_url(self) -> str:
        """What clients are pointed at."""
        return f"{self.public_url}/v1"


def find_running(settings: Settings) -> RunningServer | None:
    """The server that the run file tells of, if it is whole; it may have died since."""
    return _read(settings.run_file)


def find_last(settings: Settings) -> RunningServer | None:
    """The server that runs, or that ran last."""
    return find_running(settings) or _read(settings.last_run_file)


def _read(file: Path) -> RunningServer | None:
    try:
        content = json.loads(file.read_bytes())
        root_url = str(content["base_url"]).rstrip("/").removesuffix("/v1")
        providers = dict(content.get("providers", {}))
        chosen = dict(content.get("settings", {}))
        pid, version = int(content["pid"]), str(content["version"])
        published = content.get("public_url")
        return RunningServer(pid, root_url, version, providers, chosen, published)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_locked(settings: Settings) -> bool:
    """Whether a server lives on the data directory; its lock ends with its process, however."""
    if not settings.lock_file.exists():
        return False
    lock = _lock(settings)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError as failure:
        raise DataDirUnusable(f"{settings.lock_file} cannot be opened: {failure}") from failure
    lock.release()
    return False


def stop_running(settings: Settings, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
    """Tells the server to stop and waits until it has; its process id, or None if none ran.

    Raises ServerStuck, ServerOfContainer, and ServerNotReady for one that does not say which
    process it is.
    """
    if not is_locked(settings):
        return None
    if _is_in_server_container():
        # The signal would end us too, or in another container not even the right process.
        raise ServerOfContainer
    running = _wait_for_run_file(settings)
    if running is None:
        return None
    try:
        os.kill(running.pid, signal.SIGTERM)
    except ProcessLookupError:
        # It went by itself in between, or a container's server has another numbering.
        pass
    except PermissionError:
        raise DataDirUnusable(
            f"The server (process {running.pid}) belongs to another user, who can stop it."
        ) from None
    lock = _lock(settings)
    try:
        lock.acquire(timeout=timeout_s, poll_interval=POLL_S)
    except Timeout:
        raise ServerStuck(running.pid, timeout_s) from None
    lock.release()
    return running.pid


def healthy_server(settings: Settings) -> RunningServer | None:
    """The server of this data directory, if it takes calls."""
    running = find_running(settings)
    if running is None:
        return None
    from chowder_local.client import Client

    try:
        with Client(running.root_url, timeout_s=CALL_TIMEOUT_S) as client:
            # Another program may have got the port of a server that died.
            is_ours = client.is_ready() and client.health().get("pid") == running.pid
    except ChowderError:
        return None
    return running if is_ours else None


def start_detached(
    settings: Settings,
    options: Sequence[str],
    env: Mapping[str, str],
    timeout_s: float = READY_TIMEOUT_S,
) -> RunningServer:
    """A server of its own session, once it is ready; one that does not get there is ended.

    Raises ServerFailed with the server's own message, ServerNotReady, DataDirUnusable.
    """
    # -P: what lies in the current folder must not pass for one of our modules.
    command = [sys.executable, "-P", "-m", "chowder_local"]
    command += ["--data-dir", str(settings.data_dir.absolute()), "up", *options]
    with opened_log(settings.log_file) as log:
        start = log.tell()
        process = subprocess.Popen(  # noqa: S603 - our own command line
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(env),
            start_new_session=True,
        )
    try:
        with waiting(f"Waiting for the server (its log is {settings.log_file})"):
            running = wait_until_ready(settings, process.pid, timeout_s, process.poll)
    except BaseException:
        _terminate(process)
        raise
    if running is not None:
        # It outlives us, of which Popen would complain.
        process.returncode = 0
        return running
    if (code := process.poll()) is not None:
        message = _error_or_log_tail(settings.log_file, start)
        raise ServerFailed(message, code if code > 0 else FAILURE)
    _terminate(process)
    raise ServerNotReady(
        f"The server did not become ready within {timeout_s:g} s and was ended. "
        f"Its log, {settings.log_file}, ends with:\n{_error_or_log_tail(settings.log_file, start)}"
    )


def wait_until_ready(
    settings: Settings,
    pid: int,
    timeout_s: float = READY_TIMEOUT_S,
    exit_code: Callable[[], int | None] = lambda: None,
) -> RunningServer | None:
    """The server once it takes calls; None if it ended before, or is late."""
    from chowder_local.client import Client

    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and exit_code() is None:
        running = find_running(settings)
        if running is not None and running.pid == pid:
            with Client(running.root_url, timeout_s=CALL_TIMEOUT_S) as client:
                if client.is_ready():
                    return running
        time.sleep(POLL_S)
    return None


def _wait_for_run_file(settings: Settings) -> RunningServer | None:
    """A server that is starting has the lock before it has written its run file."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while is_locked(settings):
        if running := find_running(settings):
            return running
        if time.monotonic() > deadline:
            raise ServerNotReady(
                f"A server has {settings.lock_file}, but {settings.run_file} does not say which "
                f"process it is. Find it with 'fuser {settings.lock_file}' and end it."
            )
        time.sleep(POLL_S)
    return None


def _is_in_server_container() -> bool:
    """Whether this is in a container that was started to run the server."""
    if not is_in_container():
        return False
    command = FIRST_PROCESS.read_bytes()
    return b"chowder-local" in command or b"chowder_local" in command


def _lock(settings: Settings) -> FileLock:
    return FileLock(settings.lock_file)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _error_or_log_tail(log_file: Path, start: int) -> str:
    """The sentence that the server ended with, or else the last lines of what it logged."""
    with log_file.open("rb") as log:
        log.seek(start)
        lines = log.read().decode("utf-8", "replace").splitlines()
    # The command line writes one such line, the last thing before it ends.
    for index in range(len(lines) - 1, -1, -1):
        if lines[index].startswith("Error: "):
            return "\n".join(lines[index:]).removeprefix("Error: ")
    quoted = "\n".join(f"  {line}" for line in lines[-QUOTED_LINES:])
    return f"The server ended without a word of why. The last of {log_file}:\n{quoted}"
