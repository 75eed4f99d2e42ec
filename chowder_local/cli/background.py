"""Starting a server that outlives the command, and waiting until it takes calls."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import click

from chowder_local.cli.exit_codes import FAILURE
from chowder_local.cli.output import waiting
from chowder_local.cli.server_process import RunningServer, find_running
from chowder_local.client import Client
from chowder_local.core.data_dir import opened_log
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.process import ServerNotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from chowder_local.core.settings import Settings

READY_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0
POLL_S = 0.05
CALL_TIMEOUT_S = 5.0
QUOTED_LINES = 10


class ServerFailed(click.ClickException):
    """The server that was started ended at once; its words and its exit code are passed on."""

    def __init__(self, words: str, exit_code: int) -> None:
        super().__init__(words)
        self.exit_code = exit_code  # type: ignore[misc]  # click itself sets it like this


def healthy_server(settings: Settings) -> RunningServer | None:
    """The server of this data directory, if it takes calls."""
    running = find_running(settings)
    if running is None:
        return None
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

    Raises ServerFailed with the server's own words, ServerNotReady, DataDirUnusable.
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
        _end(process)
        raise
    if running is not None:
        # It outlives us, of which Popen would complain.
        process.returncode = 0
        return running
    if (code := process.poll()) is not None:
        raise ServerFailed(_last_words(settings.log_file, start), code if code > 0 else FAILURE)
    _end(process)
    raise ServerNotReady(
        f"The server did not become ready within {timeout_s:g} s and was ended. "
        f"Its log, {settings.log_file}, ends with:\n{_last_words(settings.log_file, start)}"
    )


def wait_until_ready(
    settings: Settings,
    pid: int,
    timeout_s: float = READY_TIMEOUT_S,
    exit_code: Callable[[], int | None] = lambda: None,
) -> RunningServer | None:
    """The server once it takes calls; None if it ended before, or is late."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and exit_code() is None:
        running = find_running(settings)
        if running is not None and running.pid == pid:
            with Client(running.root_url, timeout_s=CALL_TIMEOUT_S) as client:
                if client.is_ready():
                    return running
        time.sleep(POLL_S)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_words(log_file: Path, start: int) -> str:
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
