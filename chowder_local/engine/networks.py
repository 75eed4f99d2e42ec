"""The networks that a server's sandboxes share, and where on them they find the model relay."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from chowder_local.engine import labels

if TYPE_CHECKING:
    from typing import Any

    import docker
    from docker.models.networks import Network

log = logging.getLogger(__name__)

CLOSED_SUFFIX = "-closed"
"""What the name of a network ends with that leads nowhere."""

ELSEWHERE = (
    "this engine is in a virtual machine, or runs without root (Docker Desktop, Colima, rootless), "
    "where a network without a way out would not lead to the model relay either. It needs Docker "
    "Engine on Linux."
)


@dataclass(frozen=True)
class SandboxNetwork:
    """`relay_bind` is where the relay listens, `relay_address` what a sandbox reaches it by."""

    name: str
    relay_bind: str
    relay_address: str
    addresses: tuple[str, str] | None = None
    """Its subnet and gateway."""


@dataclass(frozen=True)
class SandboxNetworks:
    """Of sandboxes with egress, and of those without; `problem` says why there is none of them."""

    open: SandboxNetwork
    closed: SandboxNetwork | None
    problem: str | None = None

    @property
    def relay_binds(self) -> list[str]:
        """All addresses that the relay listens on."""
        networks = (self.open, self.closed)
        return [network.relay_bind for network in networks if network is not None]


def ensure_networks(client: docker.DockerClient, store_id: str) -> SandboxNetworks:
    """The server's networks, made if they are not there. Blocking."""
    name = f"chowder-{store_id}"
    # No talk between sandboxes; the host and the outside stay reachable.
    opened = _ensure(client, name, store_id, internal=False)
    if (addresses := _addresses(opened)) is None:
        # The engine lives in a virtual machine (Docker Desktop, Colima, rootless): its
        # bridge is not on this host, and it forwards its own name for the host to our loopback.
        there = SandboxNetwork(name, relay_bind="127.0.0.1", relay_address="host-gateway")
        return SandboxNetworks(there, None, ELSEWHERE)
    network = _at(name, addresses)
    try:
        return SandboxNetworks(network, _closed(client, name + CLOSED_SUFFIX, store_id))
    except (APIError, ValueError) as refused:
        # Whoever never wants it must not lose his server over it.
        log.warning("no network without a way out: %s", refused)
        return SandboxNetworks(network, None, f"the engine does not make its network: {refused}")


def remake_networks(client: docker.DockerClient, store_id: str, known: SandboxNetworks) -> None:
    """Makes those that somebody has removed, with the addresses that they had. Blocking."""
    for network, internal in ((known.open, False), (known.closed, True)):
        if network is not None and _find(client, network.name, store_id) is None:
            _create(client, network.name, store_id, network.addresses, internal=internal)


def _closed(client: docker.DockerClient, name: str, store_id: str) -> SandboxNetwork:
    network = _ensure(client, name, store_id, internal=True)
    if not _attributes(network).get("Internal"):
        raise ValueError(f"the network {name} has a way out; remove it and start the server again.")
    if (addresses := _addresses(network)) is None:
        raise ValueError(f"the network {name} has no address of this machine.")
    return _at(name, addresses)


def _at(name: str, addresses: tuple[str, str]) -> SandboxNetwork:
    _, gateway = addresses
    return SandboxNetwork(name, relay_bind=gateway, relay_address=gateway, addresses=addresses)


def _ensure(client: docker.DockerClient, name: str, store_id: str, *, internal: bool) -> Network:
    network = _find(client, name, store_id) or _create(client, name, store_id, internal=internal)
    network.reload()
    return network


def _attributes(network: Network) -> dict[str, Any]:
    return network.attrs or {}


def _addresses(network: Network) -> tuple[str, str] | None:
    """The network's subnet and this host's own address on it, if its bridge is on this host."""
    for part in _attributes(network)["IPAM"]["Config"]:
        subnet, gateway = part.get("Subnet"), part.get("Gateway")
        if subnet and gateway and _is_ours(gateway):
            return subnet, gateway
    return None


def _find(client: docker.DockerClient, name: str, store_id: str) -> Network | None:
    found = client.networks.list(names=[name], filters=labels.store_filter(store_id))
    return next((network for network in found if network.name == name), None)


def _create(
    client: docker.DockerClient,
    name: str,
    store_id: str,
    addresses: tuple[str, str] | None = None,
    *,
    internal: bool,
) -> Network:
    ipam = None
    if addresses is not None:
        # The relay listens on the gateway's address, and goes on when it is there again.
        pool = IPAMPool(subnet=addresses[0], gateway=addresses[1])
        ipam = IPAMConfig(pool_configs=[pool])
    try:
        return client.networks.create(
            name,
            driver="bridge",
            internal=internal,
            options={"com.docker.network.bridge.enable_icc": "false"},
            labels=labels.store_labels(store_id),
            check_duplicate=True,
            ipam=ipam,
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
