"""Whether this server is itself in a container, and in which one of the engine that it uses."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from docker.errors import NotFound

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.container_detection import is_in_container

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

MOUNTS = Path("/proc/self/mountinfo")
_MADE_FOR_IT = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
_ID = re.compile(r"/([0-9a-f]{64})/")
_SHORT_ID = re.compile(r"[0-9a-f]{12}")


def own_container(client: docker.DockerClient) -> str | None:
    """The id of the container that this process is in; None on the machine itself. Blocking.

    One that has the machine's network is as good as on the machine. Raises EngineUnavailable for
    one that neither this engine runs nor runs this engine.
    """
    if not is_in_container():
        return None
    for name in possible_names(MOUNTS.read_text("utf-8"), socket.gethostname()):
        try:
            details = client.api.inspect_container(name)
        except NotFound:
            continue
        is_hosts = details["HostConfig"]["NetworkMode"] == "host"
        return None if is_hosts else str(details["Id"])
    if _has_bridge_of(client):
        # The engine is in this very container, so that its networks are here.
        return None
    raise EngineUnavailable(
        "This server is in a container, and the engine that it was given runs other containers "
        "only. Give it the socket of the engine that runs its container "
        "(-v /var/run/docker.sock:/var/run/docker.sock), or run it on the engine's machine."
    )


def possible_names(mounts: str, hostname: str) -> Iterator[str]:
    """What this container may be known by, surest first (pure)."""
    for line in mounts.splitlines():
        _, _, _, root, place, *_ = line.split(" ")
        if place in _MADE_FOR_IT and (found := _ID.search(root)):
            yield found[1]
    if _SHORT_ID.fullmatch(hostname):
        yield hostname


def _has_bridge_of(client: docker.DockerClient) -> bool:
    """Whether the engine's usual bridge is on this machine, as far as one can see from here."""
    name = "com.docker.network.bridge.name"
    options = (network.attrs.get("Options") or {} for network in client.networks.list())
    return any(Path("/sys/class/net", each[name]).exists() for each in options if each.get(name))
