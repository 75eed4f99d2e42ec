"""The networks that a server's sandboxes share, and where on them they find the model relay."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool

from chowder_local.engine import labels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import docker
    from docker.models.networks import Network

log = logging.getLogger(__name__)

CLOSED_SUFFIX = "-closed"
"""What the name of a network ends with that leads nowhere."""

JOINED_MARK = "-joined"
"""What is in the name of a network that the server takes part in, being in a container itself."""

OWN_POOL = IPv4Network("10.214.0.0/16")
"""Where the addresses of a network come from once the engine's own, some thirty, are used up."""

OWN_PREFIX = 23
"""Enough for 500 sandboxes a network."""

ATTEMPTS = 5
"""Others make networks as well, and may be given the addresses that were ours a moment ago."""

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
    joined_by: str | None = None
    """The server's own container, if it is in one. Then neighbours are kept from each other by
    rules in each sandbox: a bridge that does it would keep them from the server, too."""

    @property
    def relay_binds(self) -> list[str]:
        networks = (self.open, self.closed)
        return [network.relay_bind for network in networks if network is not None]


class Networks:
    """Makes, finds and leaves the networks of one data directory; all calls block."""

    def __init__(self, client: docker.DockerClient, store_id: str) -> None:
        self._client = client
        self._store_id = store_id
        self._name = f"chowder-{store_id}"
        self._filters = labels.store_filter(store_id)

    def ensure(self, own: str | None = None) -> SandboxNetworks:
        """The server's networks, made if they are not there.

        `own` is the container that the server is in, if this engine runs it; it joins them.
        """
        name = self._name if own is None else self._name + JOINED_MARK
        self._clear({name, name + CLOSED_SUFFIX})
        if own is not None:
            network = self._joined(name, own)
        else:
            # No talk between sandboxes; the host and the outside stay reachable.
            opened = self._ensure(name, internal=False)
            if (addresses := _addresses(opened)) is None:
                # The engine lives in a virtual machine (Docker Desktop, Colima, rootless): its
                # bridge is not on this host, and it forwards its own name for the host to our
                # loopback.
                there = SandboxNetwork(name, relay_bind="127.0.0.1", relay_address="host-gateway")
                return SandboxNetworks(there, None, ELSEWHERE)
            network = _at(name, addresses)
        try:
            closed = self._closed(name + CLOSED_SUFFIX, own)
        except (APIError, ValueError) as refused:
            # Whoever never wants it must not lose his server over it.
            log.warning("no network without a way out: %s", refused)
            problem = f"the engine does not make its network: {refused}"
            return SandboxNetworks(network, None, problem, own)
        return SandboxNetworks(network, closed, None, own)

    def recreate(self, known: SandboxNetworks) -> None:
        """Makes those that somebody has removed, with the addresses that they had."""
        for network, internal in ((known.open, False), (known.closed, True)):
            if network is not None and self._find(network.name) is None:
                made = self._create(network.name, network.addresses, internal=internal)
                if known.joined_by is not None:
                    self._join(made, known.joined_by, network.relay_bind)

    def leave(self, known: SandboxNetworks) -> None:
        """Takes the server's own container out of them, so that it can be started without."""
        if (own := known.joined_by) is None:
            return
        there = self._networks_of(own)
        for network in (known.open, known.closed):
            if network is not None and network.name in there:
                with suppress(NotFound):
                    self._client.networks.get(network.name).disconnect(own, force=True)

    def _clear(self, wanted: set[str]) -> None:
        """Takes away networks of a server that was in a container and is not, or the reverse.

        Sandboxes in them would not be reached. What they are is on their volumes.
        """
        for network in self._client.networks.list(filters=self._filters):
            if network.name in wanted or not str(network.name).startswith(self._name):
                continue
            log.info("network %s is of a server elsewhere: it goes, and who is in it", network.name)
            for row in self._client.api.containers(all=True, filters=self._filters):
                if network.name in ((row.get("NetworkSettings") or {}).get("Networks") or {}):
                    self._client.api.remove_container(row["Id"], force=True)
            network.reload()
            for container_id in _attributes(network).get("Containers") or {}:
                network.disconnect(container_id, force=True)
            network.remove()

    def _joined(self, name: str, own: str) -> SandboxNetwork:
        """A network with a place for the server, whose address is the same at each start."""
        internal = name.endswith(CLOSED_SUFFIX)
        network = self._ensure(name, internal=internal)
        subnet, gateway = _addresses_given(network)
        for attempt in range(ATTEMPTS):
            if any(part.get("IPRange") for part in _attributes(network)["IPAM"]["Config"]):
                break
            # Only to whom chooses the subnet the engine gives an address of his choice.
            network.remove()
            try:
                network = self._create(name, (subnet, gateway), internal=internal)
            except APIError:
                if attempt == ATTEMPTS - 1:
                    raise
                network = self._create(name, internal=internal)
            network.reload()
            subnet, gateway = _addresses_given(network)
        _, address = place_of_server(subnet)
        self._join(network, own, address)
        return SandboxNetwork(name, address, address, (subnet, gateway))

    def _join(self, network: Network, own: str, address: str) -> None:
        there = self._networks_of(own).get(str(network.name))
        if there is not None:
            if there["IPAddress"] == address:
                return
            network.disconnect(own, force=True)
        network.connect(own, ipv4_address=address)

    def _networks_of(self, container_id: str) -> dict[str, Any]:
        details: dict[str, Any] = self._client.api.inspect_container(container_id)
        return details["NetworkSettings"]["Networks"] or {}

    def _closed(self, name: str, own: str | None) -> SandboxNetwork:
        network = self._ensure(name, internal=True)
        if not _attributes(network).get("Internal"):
            cure = "remove it and start the server again"
            raise ValueError(f"the network {name} has a way out; {cure}.")
        if own is not None:
            return self._joined(name, own)
        if (addresses := _addresses(network)) is None:
            raise ValueError(f"the network {name} has no address of this machine.")
        return _at(name, addresses)

    def _ensure(self, name: str, *, internal: bool) -> Network:
        network = self._find(name) or self._create(name, internal=internal)
        network.reload()
        return network

    def _find(self, name: str) -> Network | None:
        found = self._client.networks.list(names=[name], filters=self._filters)
        return next((network for network in found if network.name == name), None)

    def _create(
        self, name: str, addresses: tuple[str, str] | None = None, *, internal: bool
    ) -> Network:
        try:
            return self._create_at(name, addresses, internal=internal)
        except APIError as refused:
            if refused.status_code == 409 and (network := self._find(name)):
                return network
            if addresses is not None or not _are_taken(refused):
                raise
            return self._create_at_ours(name, refused, internal=internal)

    def _create_at_ours(self, name: str, refused: APIError, *, internal: bool) -> Network:
        """A network where the engine has no addresses left, as with many projects on it."""
        for addresses in _own_addresses():
            try:
                return self._create_at(name, addresses, internal=internal)
            except APIError as taken:
                if not _are_taken(taken):
                    raise
        raise refused

    def _create_at(
        self, name: str, addresses: tuple[str, str] | None, *, internal: bool
    ) -> Network:
        ipam, is_joined = None, JOINED_MARK in name
        if addresses is not None:
            subnet, gateway = addresses
            others = place_of_server(subnet)[0] if is_joined else None
            # The relay listens on an address of it, and goes on when that is there again.
            pool = IPAMPool(subnet=subnet, gateway=gateway, iprange=others)
            ipam = IPAMConfig(pool_configs=[pool])
        return self._client.networks.create(
            name,
            driver="bridge",
            internal=internal,
            options={"com.docker.network.bridge.enable_icc": str(is_joined).lower()},
            labels=labels.store_labels(self._store_id),
            check_duplicate=True,
            ipam=ipam,
        )


def place_of_server(subnet: str) -> tuple[str, str]:
    """The part of a subnet that others get addresses of, and the server's, beyond it (pure)."""
    whole = IPv4Network(subnet)
    return str(next(whole.subnets())), str(whole.broadcast_address - 1)


def _addresses_given(network: Network) -> tuple[str, str]:
    """The network's subnet and gateway, wherever its bridge is."""
    for part in _attributes(network)["IPAM"]["Config"]:
        if "." in part["Subnet"]:
            return part["Subnet"], part["Gateway"]
    raise ValueError(f"the network {network.name} has no IPv4 addresses.")


def _at(name: str, addresses: tuple[str, str]) -> SandboxNetwork:
    _, gateway = addresses
    return SandboxNetwork(name, relay_bind=gateway, relay_address=gateway, addresses=addresses)


def _attributes(network: Network) -> dict[str, Any]:
    return network.attrs or {}


def _addresses(network: Network) -> tuple[str, str] | None:
    """The network's subnet and this host's own address on it, if its bridge is on this host."""
    for part in _attributes(network)["IPAM"]["Config"]:
        subnet, gateway = part.get("Subnet"), part.get("Gateway")
        if subnet and gateway and _is_ours(gateway):
            return subnet, gateway
    return None


def _own_addresses() -> Iterator[tuple[str, str]]:
    """Subnets of our own choice, each with its gateway (pure)."""
    for subnet in OWN_POOL.subnets(new_prefix=OWN_PREFIX):
        yield str(subnet), str(subnet.network_address + 1)


def _are_taken(refused: APIError) -> bool:
    """Whether what the engine refuses a network for is that its addresses are another's."""
    reason = str(refused.explanation).lower()
    return "non-overlapping" in reason or "pool overlaps" in reason


def _is_ours(address: str) -> bool:
    """Whether a socket can be bound to the address, which only the host itself can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
