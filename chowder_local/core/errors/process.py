"""Errors of settings, the data directory, and the server's process."""

from __future__ import annotations

import errno
from typing import Any

from chowder_local.core.errors import ChowderError


class SettingsInvalid(ChowderError):
    """A setting is unknown or has an invalid value, or a file of the user's is invalid."""

    exit_code = 2
    remedy = "Correct the variable, option or file that the message names."


class PortTaken(ChowderError):
    """Another process listens on the API's port."""

    exit_code = 3
    remedy = "Stop that process, or choose another port with `--port`."

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} on {host} is taken by another program. "
            "Stop it, or choose another port with --port."
        )


class RelayPortTaken(ChowderError):
    """Another process listens on the model relay's port, by which running agents know the relay."""

    remedy = "Stop that process. The port cannot change while there are agents."

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} on {host}, where agents expect the model relay, is taken by another "
            "program. Stop that program; the port cannot change while there are agents."
        )


class DataDirLocked(ChowderError):
    """Another server uses the data directory."""

    exit_code = 4
    remedy = "Stop it with `chowder-local down`, or choose another directory with `--data-dir`."

    def __init__(self, data_dir: str) -> None:
        super().__init__(
            f"Another chowder-local server uses {data_dir}. "
            "Stop it with 'chowder-local down', or choose another directory with --data-dir."
        )


class DataDirUnusable(ChowderError):
    """The data directory or a file in it cannot be used, because it is read-only or damaged."""

    http_status = 500
    exit_code = 5
    remedy = "Do what the message says, or choose another directory with `--data-dir`."


class DataDirFull(DataDirUnusable):
    """The disk that holds the data directory is full. What was acknowledged is kept."""

    http_status = 507
    remedy = (
        "Free space on the disk and send the request again, or choose another directory with "
        "`--data-dir`."
    )
    errnos = frozenset({errno.ENOSPC, errno.EDQUOT})


def data_dir_failure(failed: OSError, message: str) -> DataDirUnusable:
    """The error for a file or folder of the data directory that cannot be used."""
    is_full = failed.errno in DataDirFull.errnos
    return (DataDirFull if is_full else DataDirUnusable)(message)


class ServerNotRunning(ChowderError):
    """No server answers at the address that the command or client calls."""

    remedy = "Start one with `chowder-local up --detach`."

    def __init__(self, base_url: str) -> None:
        super().__init__(
            f"No chowder-local server answers at {base_url}. "
            "Start one with: chowder-local up --detach"
        )


class ServerElsewhere(ChowderError):
    """A command needs the server's data directory, but `CHOWDER_BASE_URL` names another server."""

    exit_code = 2
    remedy = "Unset `CHOWDER_BASE_URL`, or name the data directory with `--data-dir`."

    def __init__(self, command: str, root_url: str, data_dir: str) -> None:
        super().__init__(
            f"'{command}' needs a server's data directory on this machine, such as {data_dir}, "
            f"but CHOWDER_BASE_URL names another server, {root_url}. Unset CHOWDER_BASE_URL, name "
            "the data directory with --data-dir, or run the command where that server's data "
            "directory is (for a container: docker compose exec)."
        )


class ServerDiffers(ChowderError):
    """`up` was given settings that the running server does not have."""

    remedy = (
        "Stop the server with `chowder-local down`, and run `up` again. Instances stay as they are."
    )

    def __init__(self, pid: int, differences: str, program: str) -> None:
        super().__init__(
            f"A server runs already (process {pid}), but its settings differ: "
            f"{differences}. Settings of a running server cannot change. Stop it with "
            f"'{program} down', which keeps agents as they are, and run 'up' again."
        )


class ServerNotReady(ChowderError):
    """A server was started, but it did not become healthy."""

    remedy = "Read the end of its log, which the message quotes, and run `chowder-local doctor`."


class ServerSilent(ChowderError):
    """The server was reached, but its answer did not come in time or broke off."""

    remedy = "Try again, and run `chowder-local doctor` if it happens again."


class ServerStuck(ChowderError):
    """A server does not stop in time."""

    remedy = "Run `chowder-local down` again, or end the process that the message names."

    def __init__(self, pid: int, waited_s: float) -> None:
        super().__init__(
            f"The server (process {pid}) has not stopped within {waited_s:.0f} s. "
            f"Run 'chowder-local down' again, or end it with: kill -9 {pid}"
        )


class ServerOfContainer(ChowderError):
    """The server is its container's main process, so only the engine can stop it properly."""

    remedy = "Stop the container with `docker stop` or `docker compose stop`."
    message = (
        "The server is this container's main process and cannot be stopped from inside. Stop "
        "the container with docker stop or docker compose stop. To run a command without the "
        "server, use another container: docker compose run --rm chowder-local reset --yes"
    )


class ApiRefused(ChowderError):
    """The server answered a client's call with an error. The message and the `code` are the
    answer's: `api_refused` is that of an answer without a code. `body` is its JSON, if it is any.
    """

    remedy = "Look the code up among the errors of the HTTP API."

    def __init__(self, status: int, detail: str, code: str | None = None) -> None:
        super().__init__(f"{detail} (HTTP {status})")
        self.status = status
        self.code = code or self.code
        self.body: Any = None


class RemoteFailed(ChowderError):
    """The other server of `pull`, `push` or `drift` is not reached, or its answer is not usable."""

    remedy = (
        "Do what the message says. If the answer is too long, too slow or not what the published "
        "API has, ask whoever runs the server."
    )
