"""The one network that a server's sandboxes share, and where on it they find the model relay."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docker.errors import APIError

from chowder_local.engine import labels

if TYPE_CHECKING:
    import docker
    from docker.models.networks import Network


@dataclass(frozen=True)
class SandboxNetwork:
    """`relay_bind` is where the relay listens, `relay_address` what a sandbox reaches it by."""

    name: str
    relay_bind: str
    relay_address: str


def ensure_network(client: docker.DockerClient, store_id: str) -> SandboxNetwork:
    """The server's network, made if it is not there. Blocking."""
    name = f"chowder-{store_id}"
    network = _find(client, name, store_id) or _create(client, name, store_id)
    network.reload()
    attributes = network.attrs or {}
    gateways = [part.get("Gateway") for part in attributes["IPAM"]["Config"]]
    for gateway in filter(None, gateways):
        if _is_ours(gateway):
            return SandboxNetwork(name, relay_bind=gateway, relay_address=gateway)
    # The engine lives in a virtual machine (Docker Desktop, Colima, rootless): its
    # bridge is not on this host, and it forwards its own name for the host to our loopback.
    return SandboxNetwork(name, relay_bind="127.0.0.1", relay_address="host-gateway")


def _find(client: docker.DockerClient, name: str, store_id: str) -> Network | None:
    found = client.networks.list(names=[name], filters=labels.store_filter(store_id))
    return next((network for network in found if network.name == name), None)


def _create(client: docker.DockerClient, name: str, store_id: str) -> Network:
    try:
        return client.networks.create(
            name,
            driver="bridge",
            # No talk between sandboxes; the host and the outside stay reachable.
            options={"com.docker.network.bridge.enable_icc": "false"},
            labels=labels.store_labels(store_id),
            check_duplicate=True,
        )
    except APIError as refused:
        if refused.status_code == 409 and (network := _find(client, name, store_id)):
            return network
        raise


def _is_ours(address: str) -> bool:
    """Whether a socket can be bound to the address, which only the host itself can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
