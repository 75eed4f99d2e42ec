"""The networks of a server's sandboxes, and the addresses of the model relay on them."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool

from chowder_local.core.domain import RELAY_HOSTNAME
from chowder_local.engine import labels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import docker
    from docker.models.networks import Network

log = logging.getLogger(__name__)

CLOSED_SUFFIX = "-closed"
"""Ends the name of a network without a way out."""

JOINED_MARK = "-joined"
"""Part of the name of a network that the server's own container joins."""

OWN_POOL = IPv4Network("10.214.0.0/16")
"""The address pool for networks once the engine's own subnets, about thirty, are used up."""

OWN_PREFIX = 23
"""The prefix length of a subnet: enough for 500 sandboxes in each network."""

ATTEMPTS = 5
"""How often to try a subnet, since other programs may take its addresses in between."""

NO_BRIDGE = (
    "this engine runs in a virtual machine or without root (Docker Desktop, Colima, rootless), "
    "where an isolated network does not reach the model relay. Use Docker Engine on Linux."
)


HOST_GATEWAY = "host-gateway"
"""What the engine replaces by its machine's address for containers."""


@dataclass(frozen=True)
class SandboxNetwork:
    """The relay listens at `relay_bind`; sandboxes reach it at `relay_address`.

    Without an address, they find it by the name that it has on the network.
    """

    name: str
    relay_bind: str
    relay_address: str | None
    addresses: tuple[str, str] | None = None
    """The subnet and the gateway; None if the network's bridge is not on this host."""
    host_address: str = HOST_GATEWAY
    """Where sandboxes with egress reach the engine's machine."""


@dataclass(frozen=True)
class SandboxNetworks:
    """The networks with and without egress; `problem` says why there is no closed one."""

    open: SandboxNetwork
    closed: SandboxNetwork | None
    problem: str | None = None
    joined_by: str | None = None
    """The id of the server's own container, if it runs in one. Firewall rules then isolate the
    sandboxes from each other, because an isolating bridge would also cut off the server."""

    @property
    def relay_binds(self) -> list[str]:
        networks = (self.open, self.closed)
        binds = (network.relay_bind for network in networks if network is not None)
        return list(dict.fromkeys(binds))


@dataclass(eq=False, repr=False)
class Networks:
    """Creates, finds and leaves the networks of one data directory. All calls block."""

    client: docker.DockerClient
    store_id: str

    def __post_init__(self) -> None:
        self._name = f"chowder-{self.store_id}"
        self._filters = labels.store_filter(self.store_id)

    def ensure(self, own: str | None = None) -> SandboxNetworks:
        """The server's networks, created if they do not exist.

        `own` is the id of the server's own container, if it runs in one; it joins the networks.
        Raises the SDK's errors if the open network cannot be created.
        """
        name = self._name if own is None else self._name + JOINED_MARK
        self._remove_all_but({name, name + CLOSED_SUFFIX})
        if own is not None:
            network = self._joined(name, own)
        else:
            # Sandboxes cannot reach each other, but the host and the outside.
            opened = self._ensure(name, internal=False)
            if (addresses := _addresses(opened)) is None:
                # The engine runs in a virtual machine (Docker Desktop, Colima, rootless): its
                # bridge is not on this host, and it forwards `host-gateway` to our loopback.
                network = SandboxNetwork(name, "127.0.0.1", relay_address=HOST_GATEWAY)
                return SandboxNetworks(network, None, NO_BRIDGE)
            network = _at(name, addresses)
        try:
            closed = self._closed(name + CLOSED_SUFFIX, own)
        except (APIError, ValueError) as refused:
            # A server whose agents all have egress works without it.
            log.warning("the isolated network cannot be created: %s", refused)
            problem = f"the engine cannot create its network: {refused}"
            return SandboxNetworks(network, None, problem, own)
        return SandboxNetworks(network, closed, None, own)

    def recreate(self, networks: SandboxNetworks) -> None:
        """Creates removed networks again, with the addresses that they had."""
        for network, internal in ((networks.open, False), (networks.closed, True)):
            if network is not None and self._find(network.name) is None:
                created = self._create(network.name, network.addresses, internal=internal)
                if networks.joined_by is not None:
                    self._join(created, networks.joined_by, network.relay_bind)

    def leave(self, networks: SandboxNetworks) -> None:
        """Removes the networks, if no container is on either of them, whether it runs or not.

        One alone would come back with other addresses, which warm sandboxes do not know.
        Disconnects the server's own container first, so that it can start without the networks.
        """
        own = networks.joined_by
        joined = {} if own is None else self._networks_of(own)
        pair = [each for each in (networks.open, networks.closed) if each is not None]
        found = [network for each in pair if (network := self._find(each.name)) is not None]
        for network in found:
            if own is not None and network.name in joined:
                with suppress(NotFound):
                    network.disconnect(own, force=True)
        on_them = {"network": [network.id for network in found]}
        if found and not self.client.api.containers(all=True, filters=on_them):
            for network in found:
                with suppress(NotFound):
                    network.remove()

    def _remove_all_but(self, names: set[str]) -> None:
        """Removes the networks of a server that moved into a container or out of one.

        Their sandboxes, which the server cannot reach, are removed too; their volumes stay.
        """
        for network in self.client.networks.list(filters=self._filters):
            if network.name in names or not str(network.name).startswith(self._name):
                continue
            log.info("the server moved: removing network %s and its sandboxes", network.name)
            for row in self.client.api.containers(all=True, filters=self._filters):
                if network.name in ((row.get("NetworkSettings") or {}).get("Networks") or {}):
                    self.client.api.remove_container(row["Id"], force=True)
            network.reload()
            for container_id in _attributes(network).get("Containers") or {}:
                network.disconnect(container_id, force=True)
            network.remove()

    def _joined(self, name: str, own: str) -> SandboxNetwork:
        """A network that the server's container joins, with the same address at each start."""
        internal = name.endswith(CLOSED_SUFFIX)
        network = self._ensure(name, internal=internal)
        subnet, gateway = _ipv4_addresses(network)
        for attempt in range(ATTEMPTS):
            if any(part.get("IPRange") for part in _attributes(network)["IPAM"]["Config"]):
                break
            # The engine grants a chosen address only in a subnet that was chosen, too.
            network.remove()
            try:
                network = self._create(name, (subnet, gateway), internal=internal)
            except APIError:
                if attempt == ATTEMPTS - 1:
                    raise
                network = self._create(name, internal=internal)
            network.reload()
            subnet, gateway = _ipv4_addresses(network)
        _, address = split_subnet(subnet)
        self._join(network, own, address)
        return SandboxNetwork(name, address, address, (subnet, gateway))

    def _join(self, network: Network, own: str, address: str) -> None:
        endpoint = self._networks_of(own).get(str(network.name))
        # An endpoint without an id is what remains of a connection that failed because its address
        # was in use.
        if endpoint is not None and endpoint["EndpointID"]:
            if endpoint["IPAddress"] == address:
                return
            network.disconnect(own, force=True)
        # The name is for sandboxes that are created before their network is known.
        network.connect(own, ipv4_address=address, aliases=[RELAY_HOSTNAME])

    def _networks_of(self, container_id: str) -> dict[str, Any]:
        details: dict[str, Any] = self.client.api.inspect_container(container_id)
        return details["NetworkSettings"]["Networks"] or {}

    def _closed(self, name: str, own: str | None) -> SandboxNetwork:
        network = self._ensure(name, internal=True)
        if not _attributes(network).get("Internal"):
            remedy = "remove it and start the server again"
            raise ValueError(f"the network {name} has a way out; {remedy}.")
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
        networks = self.client.networks.list(names=[name], filters=self._filters)
        return next((network for network in networks if network.name == name), None)

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
            return self._create_in_own_pool(name, refused, internal=internal)

    def _create_in_own_pool(self, name: str, refused: APIError, *, internal: bool) -> Network:
        """Creates a network in `OWN_POOL`. Raises `refused` if none of its subnets is free."""
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
            sandbox_range = split_subnet(subnet)[0] if is_joined else None
            # The relay's socket is bound to an address of the subnet. It works again once the
            # subnet exists.
            pool = IPAMPool(subnet=subnet, gateway=gateway, iprange=sandbox_range)
            ipam = IPAMConfig(pool_configs=[pool])
        return self.client.networks.create(
            name,
            driver="bridge",
            internal=internal,
            options={"com.docker.network.bridge.enable_icc": str(is_joined).lower()},
            labels=labels.store_labels(self.store_id),
            check_duplicate=True,
            ipam=ipam,
        )


def split_subnet(subnet: str) -> tuple[str, str]:
    """The range of a subnet for sandboxes, and the server's address outside that range (pure)."""
    whole = IPv4Network(subnet)
    return str(next(whole.subnets())), str(whole.broadcast_address - 1)


def _ipv4_addresses(network: Network) -> tuple[str, str]:
    """The network's subnet and gateway, even if its bridge is not on this host."""
    for part in _attributes(network)["IPAM"]["Config"]:
        if "." in part["Subnet"]:
            return part["Subnet"], part["Gateway"]
    raise ValueError(f"the network {network.name} has no IPv4 addresses.")


def _at(name: str, addresses: tuple[str, str]) -> SandboxNetwork:
    _, gateway = addresses
    return SandboxNetwork(name, gateway, gateway, addresses, host_address=gateway)


def _attributes(network: Network) -> dict[str, Any]:
    return network.attrs or {}


def _addresses(network: Network) -> tuple[str, str] | None:
    """The network's subnet and gateway; None if its bridge is not on this host."""
    for part in _attributes(network)["IPAM"]["Config"]:
        subnet, gateway = part.get("Subnet"), part.get("Gateway")
        if subnet and gateway and _is_local(gateway):
            return subnet, gateway
    return None


def _own_addresses() -> Iterator[tuple[str, str]]:
    """The subnets of `OWN_POOL`, each with its gateway (pure)."""
    for subnet in OWN_POOL.subnets(new_prefix=OWN_PREFIX):
        yield str(subnet), str(subnet.network_address + 1)


def _are_taken(refused: APIError) -> bool:
    """Whether the engine refused a network because its addresses are in use."""
    reason = str(refused.explanation).lower()
    # The last sign appears because the engine shares a subnet among networks, but not its gateway.
    signs = ("non-overlapping", "pool overlaps", "failed to allocate gateway")
    return any(sign in reason for sign in signs)


def _is_local(address: str) -> bool:
    """Whether the address is one of this host's: only then can a socket be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
