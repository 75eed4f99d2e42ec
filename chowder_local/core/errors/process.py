"""Errors: settings, the data directory, and a server as its command line sees it."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError


class SettingsInvalid(ChowderError):
    """A setting is unknown or has a value that makes no sense."""


class PortTaken(ChowderError):
    """The address to listen on belongs to another process."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} on {host} is taken by another program. "
            "Stop it, or choose another port with --port."
        )


class RelayPortTaken(ChowderError):
    """The model relay's port, which running agents know it by, belongs to another process."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} on {host}, where agents expect the model relay, is taken by another "
            "program. Stop that program; the number cannot change while there are agents."
        )


class DataDirLocked(ChowderError):
    def __init__(self, data_dir: str) -> None:
        super().__init__(
            f"Another chowder-local server uses {data_dir}. "
            "Stop it with 'chowder-local down', or choose another one with --data-dir."
        )


class DataDirUnusable(ChowderError):
    """The data directory cannot be written: full, read-only or not ours."""


class ServerNotRunning(ChowderError):
    """The CLI finds no server to talk to."""

    def __init__(self, base_url: str) -> None:
        super().__init__(
            f"No chowder-local server answers at {base_url}. "
            "Start one with: chowder-local up --detach"
        )


class ServerElsewhere(ChowderError):
    """A command needs the server's data directory, but CHOWDER_BASE_URL names another server."""

    def __init__(self, command: str, root_url: str, data_dir: str) -> None:
        super().__init__(
            f"'{command}' is for the server of a data directory on this machine, such as "
            f"{data_dir}, but CHOWDER_BASE_URL names another one, {root_url}. Run it where that "
            "server's data directory is (for a container: docker compose exec), or unset "
            "CHOWDER_BASE_URL, or name the data directory that is meant with --data-dir."
        )


class ServerDiffers(ChowderError):
    """`up` was given settings that the running server does not have."""

    def __init__(self, pid: int, differences: str, program: str) -> None:
        super().__init__(
            f"A server runs already (process {pid}), but not as asked for: "
            f"{differences}. Settings of a running server cannot change. Stop it with "
            f"'{program} down', which leaves agents as they are, and run 'up' again."
        )


class ServerNotReady(ChowderError):
    """A server that was started did not become healthy."""


class ServerSilent(ChowderError):
    """The server was reached, but its answer did not come in time or broke off."""


class ServerStuck(ChowderError):
    """A server does not stop."""

    def __init__(self, pid: int, waited_s: float) -> None:
        super().__init__(
            f"The server (process {pid}) has not stopped within {waited_s:.0f} s. "
            f"Run 'chowder-local down' again, or end it with: kill -9 {pid}"
        )


class ServerOfContainer(ChowderError):
    """The server is its container's main process, so only the engine can end it properly."""

    message = (
        "This container is there for the server, and ends with it. Stop it by the engine "
        "(docker stop, docker compose stop); what is to be done without the server is done in "
        "another one: docker compose run --rm chowder-local reset --yes"
    )


class ApiRefused(ChowderError):
    """The server answered a client's call with an error; the message is the answer's."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{detail} (HTTP {status})")
        self.status = status
