"""Finds, starts and stops the server process of a data directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, cast

import click
from filelock import FileLock, Timeout

from chowder_local.cli.output import waiting
from chowder_local.cli.run_file import find_running
from chowder_local.core.data_dir import full, is_full, open_log
from chowder_local.core.data_dir_layout import PREFIX
from chowder_local.core.errors import FAILURE, ChowderError
from chowder_local.core.errors.process import (
    DataDirUnusable,
    ServerNotReady,
    ServerOfContainer,
    ServerStuck,
)
from chowder_local.engine.self_container import is_in_container, process_namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chowder_local.cli.run_file import RunningServer
    from chowder_local.core.data_dir_layout import DataDirLayout

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.05
READY_POLL_S = 0.01
READY_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 5.0
QUOTED_LINES = 10
WAIT_OPTION = "--wait"
"""Has a server wait for its settings on its standard input before it opens anything."""
FIRST_PROCESS = Path("/proc/1/cmdline")


class ServerFailed(click.ClickException):
    """The server ended before it was ready; it has the server's message and exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click itself sets it like this


def is_locked(settings: DataDirLayout) -> bool:
    """Whether a server uses the data directory; its lock ends with its process.

    Raises DataDirUnusable if the lock file cannot be opened.
    """
    if not settings.lock_file.exists():
        return False
    lock = FileLock(settings.lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError as failure:
        raise DataDirUnusable(f"{settings.lock_file} cannot be opened: {failure}") from failure
    lock.release()
    return False


def stop_running(settings: DataDirLayout, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
    """Stops the server, waits for its end, and returns its process id; None if none ran.

    Raises ServerStuck if it does not stop in time, ServerOfContainer in the server's own container
    or if the server is in another one, ServerNotReady if its process is unknown, and
    DataDirUnusable if it is another user's.
    """
    if not is_locked(settings):
        return None
    if _is_in_server_container():
        # The signal would end this process as well.
        raise ServerOfContainer
    running = _wait_for_run_file(settings)
    if running is None:
        return None
    if running.process_namespace not in {None, process_namespace()}:
        # In this container, the server's process id belongs to another process.
        raise ServerOfContainer(
            f"The server of {settings.data_dir} runs in another container, so it cannot be stopped "
            "from here. Stop that container with docker stop or docker compose stop."
        )
    try:
        os.kill(running.pid, signal.SIGTERM)
    except ProcessLookupError:
        # The server has just ended.
        pass
    except PermissionError:
        raise DataDirUnusable(
            f"The server (process {running.pid}) belongs to another user, who can stop it."
        ) from None
    lock = FileLock(settings.lock_file)
    try:
        lock.acquire(timeout=timeout_s, poll_interval=POLL_S)
    except Timeout:
        raise ServerStuck(running.pid, timeout_s) from None
    lock.release()
    return running.pid


def healthy_server(settings: DataDirLayout) -> RunningServer | None:
    """The server of the data directory, if it takes calls."""
    running = find_running(settings)
    if running is None:
        return None
    from chowder_local.client import Client

    try:
        with Client(running.root_url, timeout_s=CALL_TIMEOUT_S) as client:
            # Another program may have taken the port of a server that died.
            is_ours = client.is_ready() and client.health().get("pid") == running.pid
    except ChowderError:
        return None
    return running if is_ours else None


def starting_server(
    settings: DataDirLayout, timeout_s: float = READY_TIMEOUT_S
) -> RunningServer | None:
    """The server that has the data directory, once it takes calls; None if it ends before, or does
    not in time.

    Raises DataDirUnusable if the lock file cannot be opened.
    """
    deadline = time.monotonic() + timeout_s
    with waiting(f"Waiting for the server that another command has started on {settings.data_dir}"):
        while is_locked(settings) and time.monotonic() < deadline:
            # A server that was killed has left its run file there.
            if running := healthy_server(settings):
                return running
            time.sleep(POLL_S)
    return None


@dataclass(eq=False, repr=False)
class NewServer:
    """A server process that imports its modules, and then waits for its settings."""

    process: subprocess.Popen[bytes]
    log_start: int
    """Where in the log file its own lines begin."""
    is_ready: bool = False

    @classmethod
    def begin(cls, files: DataDirLayout, env: Mapping[str, str]) -> Self:
        """Starts the process in a session of its own.

        Raises DataDirUnusable if its log cannot be written.
        """
        # -P: a module in the current folder must not replace one of ours.
        command = [sys.executable, "-P", "-m", "chowder_local.app", WAIT_OPTION]
        with open_log(files.log_file) as log:
            start = log.tell()
            process = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=dict(env),
                start_new_session=True,
            )
        return cls(process, start)

    def send_settings(self, settings: DataDirLayout, env: Mapping[str, str]) -> None:
        """Has it serve with the settings of an environment."""
        variables = {**env, f"{PREFIX}DATA_DIR": str(settings.data_dir)}
        # One that has ended is noticed when its readiness is awaited.
        with self._gate() as gate, suppress(BrokenPipeError):
            gate.write(json.dumps(variables).encode() + b"\n")

    def end(self) -> None:
        """Ends the process, unless it is a server that has become ready."""
        self._gate().close()
        if not self.is_ready:
            _terminate(self.process)

    def _gate(self) -> IO[bytes]:
        return cast("IO[bytes]", self.process.stdin)


@contextmanager
def importing_server(files: DataDirLayout, env: Mapping[str, str]) -> Iterator[NewServer | None]:
    """A server process that imports its modules during the block, and ends with it unless it
    is ready by then; None if the data directory is new, or a server seems to run on it.
    """
    if not files.log_file.exists() or files.run_file.exists():
        # Nothing is made in a folder for settings that may be refused.
        yield None
        return
    server = NewServer.begin(files, env)
    try:
        yield server
    finally:
        server.end()


def start_detached(
    settings: DataDirLayout,
    env: Mapping[str, str],
    server: NewServer | None = None,
    *,
    prepare: Callable[[], object] = lambda: None,
    timeout_s: float = READY_TIMEOUT_S,
) -> RunningServer:
    """Starts a server in a process session of its own, and returns it once it is ready.

    The environment has its settings. The server, which may have begun before, imports its modules
    while `prepare` runs, and does nothing else until that has ended.

    Raises ServerFailed with the server's own message if it ends, ServerNotReady if it is not ready
    in time (the server is ended then), and DataDirUnusable if its log cannot be written.
    """
    server = server or NewServer.begin(settings, env)
    process = server.process
    try:
        prepare()
        server.send_settings(settings, env)
        with waiting(f"Waiting for the server (its log is {settings.log_file})"):
            running = wait_until_ready(
                settings, process.pid, lambda: process.poll() is not None, timeout_s
            )
    except BaseException:
        server.end()
        raise
    if running is not None:
        server.is_ready = True
        # The server outlives this process, of which Popen would warn.
        process.returncode = 0
        return running
    if (code := process.poll()) is not None:
        message = _error_or_log_tail(settings.log_file, server.log_start)
        raise ServerFailed(message, code if code > 0 else FAILURE)
    server.end()
    log_tail = _error_or_log_tail(settings.log_file, server.log_start)
    raise ServerNotReady(
        f"The server did not become ready within {timeout_s:g} s and was ended. "
        f"Its log, {settings.log_file}, ends with:\n{log_tail}"
    )


def wait_until_ready(
    settings: DataDirLayout,
    pid: int,
    has_ended: Callable[[], bool],
    timeout_s: float = READY_TIMEOUT_S,
) -> RunningServer | None:
    """The server once clients can connect; None if it ends before or is not ready in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not has_ended():
        # A server writes the file when all its services are open, and its socket listens.
        running = find_running(settings)
        if running is not None and running.pid == pid:
            return running
        time.sleep(READY_POLL_S)
    return None


def _wait_for_run_file(settings: DataDirLayout) -> RunningServer | None:
    """The server, which may have the lock before it has written its run file.

    Raises ServerNotReady if the file is not written in time.
    """
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
    """Whether this process is in a container that was started to run the server."""
    if not is_in_container():
        return False
    command = FIRST_PROCESS.read_bytes()
    return b"chowder-local" in command or b"chowder_local" in command


def _terminate(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _error_or_log_tail(log_file: Path, start: int) -> str:
    """The error that the server ended with, or else the last lines of its log."""
    with log_file.open("rb") as log:
        # The server may have begun a new file since `start` was read.
        log.seek(start if start <= log.seek(0, os.SEEK_END) else 0)
        lines = log.read().decode("utf-8", "replace").splitlines()
    # The server's command line writes a line that begins with `Error: ` before it ends.
    for index in range(len(lines) - 1, -1, -1):
        if lines[index].startswith("Error: "):
            return "\n".join(lines[index:]).removeprefix("Error: ")
    # On a full disk, the log has no room for the message.
    if is_full(log_file.parent):
        return str(full(log_file.parent))
    quoted = "\n".join(f"  {line}" for line in lines[-QUOTED_LINES:])
    return f"The server ended without an error message. Its log, {log_file}, ends with:\n{quoted}"
