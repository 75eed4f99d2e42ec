"""Finding the server that runs on a data directory, and stopping it."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from chowder_local.core.errors.process import (
    DataDirUnusable,
    ServerNotReady,
    ServerOfContainer,
    ServerStuck,
)
from chowder_local.engine.container_detection import is_in_container

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.settings import Settings

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 60.0
LOCK_POLL_S = 0.05
FIRST_PROCESS = Path("/proc/1/cmdline")


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
    if _is_of_container():
        # The signal would end us too, or in another container not even the right process.
        raise ServerOfContainer
    running = _once_it_says_who_it_is(settings)
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
        lock.acquire(timeout=timeout_s, poll_interval=LOCK_POLL_S)
    except Timeout:
        raise ServerStuck(running.pid, timeout_s) from None
    lock.release()
    return running.pid


def _once_it_says_who_it_is(settings: Settings) -> RunningServer | None:
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
        time.sleep(LOCK_POLL_S)
    return None


def _is_of_container() -> bool:
    """Whether this is in a container that was started to run the server."""
    if not is_in_container():
        return False
    command = FIRST_PROCESS.read_bytes()
    return b"chowder-local" in command or b"chowder_local" in command


def _lock(settings: Settings) -> FileLock:
    return FileLock(settings.lock_file)
