"""Whether this process runs in a container, and which one of the engine that it uses."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.sandboxes import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""Files that Docker and Podman create in each container."""


def is_in_container() -> bool:
    return any(mark.exists() for mark in MARKS)


def process_namespace() -> str:
    """Identifies the processes among which a process id is unique; empty if the system has one."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


MOUNTS = Path("/proc/self/mountinfo")
_ENGINE_MOUNTS = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
_ID = re.compile(r"/([0-9a-f]{64})/")
_SHORT_ID = re.compile(r"[0-9a-f]{12}")


def own_container(client: docker.DockerClient) -> str | None:
    """The id of the container that this process runs in; None if it runs on the host. Blocks.

    A container with the host's network counts as the host. Raises EngineUnavailable for a container
    that this engine does not run and that does not run this engine.
    """
    if not is_in_container():
        return None
    # Quick commands import this module and must not load the SDK.
    from docker.errors import NotFound

    for name in possible_names(MOUNTS.read_text("utf-8"), socket.gethostname()):
        try:
            details = client.api.inspect_container(name)
        except NotFound:
            continue
        has_host_network = details["HostConfig"]["NetworkMode"] == "host"
        return None if has_host_network else str(details["Id"])
    if _has_bridge_of(client):
        # The engine runs in this container, too, so its networks are here.
        return None
    raise EngineUnavailable(
        "This server runs in a container that its engine does not run. Mount the socket of the "
        "engine that runs this container (-v /var/run/docker.sock:/var/run/docker.sock), or run "
        "the server on the engine's machine."
    )


def address_on(client: docker.DockerClient, network: str) -> str:
    """This container's address on a network. Blocks; raises EngineUnavailable if it has none."""
    own = own_container(client)
    networks = {} if own is None else _networks_of(client, own)
    if (address := (networks.get(network) or {}).get("IPAddress")) is None:
        raise EngineUnavailable(
            f"This container is not on the network {network}: deploy the stack as a whole."
        )
    return str(address)


def possible_names(mounts: str, hostname: str) -> Iterator[str]:
    """Ids and names that this container may have, the most certain first (pure)."""
    for line in mounts.splitlines():
        _, _, _, root, mount_point, *_ = line.split(" ")
        if mount_point in _ENGINE_MOUNTS and (match := _ID.search(root)):
            yield match[1]
    if _SHORT_ID.fullmatch(hostname):
        yield hostname


def _networks_of(client: docker.DockerClient, container_id: str) -> dict[str, Any]:
    details: dict[str, Any] = client.api.inspect_container(container_id)
    return details["NetworkSettings"]["Networks"] or {}


def _has_bridge_of(client: docker.DockerClient) -> bool:
    """Whether a bridge of one of the engine's networks is visible from here."""
    name = "com.docker.network.bridge.name"
    options = (network.attrs.get("Options") or {} for network in client.networks.list())
    return any(Path("/sys/class/net", each[name]).exists() for each in options if each.get(name))
