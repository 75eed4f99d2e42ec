"""A server in a container, started for tests: found by its name, and removed with its agents."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docker.errors import NotFound

from chowder_local.engine.connection import engine_client
from chowder_local.engine.images import REFUSAL
from chowder_local.engine.store_resources import sweep
from chowder_local.engine.volume_archives import read_container_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    import docker
    from docker.models.containers import Container

    from chowder_local.engine.connection import EngineAddress

PORT = 2469
SOCKET = "/var/run/docker.sock"
STORE_FILE = "/data/store.id"
KEY_FILE = "/data/default.key"
LOG_LINES = 20

RIGHTS: Mapping[str, Any] = {
    "cap_drop": ["ALL"],
    "cap_add": ["CHOWN", "KILL", "SETGID", "SETUID"],
    "security_opt": ["no-new-privileges"],
    "init": True,
}
"""As in compose.yaml: what it takes to become a user without rights, and to be ended as one."""

_OVERRIDE = "TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE"


@dataclass(frozen=True)
class ServerContainer:
    """How it is; `port` is on this machine's loopback, `key` the default organization's."""

    is_running: bool
    port: int | None
    key: str | None
    log_tail: str


def engine_socket_path(address: EngineAddress, env: Mapping[str, str]) -> str:
    """Where the engine's own machine has its socket, which a container of it is to be given (pure).

    A virtual machine's is not where this machine has the way to it. Testcontainers' variable for
    that is heeded.
    """
    if chosen := env.get(_OVERRIDE):
        return chosen
    path = address.url.partition("://")[2]
    is_usual = not address.url.startswith("unix://") or sys.platform != "linux"
    return SOCKET if is_usual or "/." in path else path


def run_server(name: str, tag: str, environment: Mapping[str, str], env: Mapping[str, str]) -> None:
    """Starts it, unless it runs already, of that very image. Raises EngineUnavailable."""
    with engine_client(env, REFUSAL) as (client, address):
        image = client.images.get(tag)
        found = _find(client, name)
        if found is not None:
            if found.status == "running" and found.attrs["Image"] == image.id:
                return
            _remove(client, found)
        options: dict[str, Any] = {
            "name": name,
            "environment": dict(environment),
            "ports": {f"{PORT}/tcp": ("127.0.0.1", None)},
            "volumes": [f"{engine_socket_path(address, env)}:{SOCKET}"],
        }
        client.containers.run(tag, detach=True, **options, **RIGHTS)


def inspect_server(name: str, env: Mapping[str, str]) -> ServerContainer | None:
    """How it is now; None if there is none. Raises EngineUnavailable."""
    with engine_client(env, REFUSAL) as (client, _):
        if (found := _find(client, name)) is None:
            return None
        bound = found.attrs["NetworkSettings"]["Ports"].get(f"{PORT}/tcp") or []
        return ServerContainer(
            is_running=found.status == "running",
            port=next((int(each["HostPort"]) for each in bound), None),
            key=read_file(found, KEY_FILE),
            log_tail=found.logs(tail=LOG_LINES).decode(errors="replace"),
        )


def remove_server(name: str, env: Mapping[str, str]) -> None:
    """Removes it, with every agent and all data of it. Raises EngineUnavailable."""
    with engine_client(env, REFUSAL) as (client, _):
        if (found := _find(client, name)) is not None:
            _remove(client, found)


def read_file(container: Container, path: str) -> str | None:
    """What is in a file of a container, which need not run; None if there is no such file."""
    content = read_container_file(container, path)
    return None if content is None else content.decode().strip()


def _find(client: docker.DockerClient, name: str) -> Container | None:
    try:
        return client.containers.get(name)
    except NotFound:
        return None


def _remove(client: docker.DockerClient, container: Container) -> None:
    store_id = read_file(container, STORE_FILE)
    container.remove(force=True, v=True)
    if store_id:
        sweep(client, store_id)
