"""Starts sandboxes: their containers, what is put on their volumes, their firewall rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine import volume_archives
from chowder_local.engine.containers import parse_container
from chowder_local.engine.specs import (
    CONFINED,
    STATE_DIR,
    ConfinementChecks,
    SandboxTemplate,
    confine,
    container_options,
    needs_confinement,
    tar_of_files,
    volume_files,
)
from chowder_local.engine.threads import ensure_awaited

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

    from chowder_local.core.domain import (
        SandboxInfo,
        SandboxSpec,
    )
    from chowder_local.engine.containers import OwnedResources
    from chowder_local.engine.networks import Networks, SandboxNetworks


# `confine.py` begins by opening this socket, which gVisor refuses.
_OPEN_NETFILTER = "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)"


def networks_under(
    runtime: str, own: OwnedResources, image: str, networks: SandboxNetworks
) -> SandboxNetworks:
    """The networks for sandboxes under a runtime: no closed one if it has no firewall rules.

    Runs a container to find out. Blocks; raises the SDK's errors if the engine has no such
    runtime, and EngineUnavailable if the sandboxes could not be isolated from each other.
    """
    options = {"entrypoint": "/usr/bin/python3", **CONFINED, "runtime": runtime}
    with own.temporary_container(image, ["-I", "-S", "-c", _OPEN_NETFILTER], **options) as probe:
        probe.start()
        if probe.wait()["StatusCode"] == 0:
            return networks
    problem = f"sandboxes under the runtime {runtime} have no firewall rules."
    if networks.joined_by is not None:
        raise EngineUnavailable(
            f"Agents could reach each other: {problem} Run the server on the engine's machine "
            "itself instead of in a container, or unset CHOWDER_CONTAINER_RUNTIME."
        )
    return replace(networks, closed=None, problem=problem)


@dataclass(eq=False, repr=False)
class SandboxStarts:
    """Starts the sandboxes of one data directory. All calls block."""

    client: docker.DockerClient
    own: OwnedResources
    networks: Networks

    def __post_init__(self) -> None:
        self.checks = ConfinementChecks(self.client)
        self.relay_port: int | None = None
        """The only port that a sandbox without egress may call."""

    def boot(self, spec: SandboxSpec, template: SandboxTemplate) -> SandboxInfo:
        """Creates and starts the container in place of one of that id; an existing volume is kept.

        Raises EgressUnavailable, before any change, if `spec` wants an isolated network in vain.
        """
        options = container_options(spec, template)
        self.own.discard(spec.id)
        # A removed network takes the relay's address with it.
        self.networks.recreate(template.networks)
        self.own.ensure_volume(spec.id)
        container = self.client.containers.create(**options)
        _fill(container, spec, template)
        ensure_awaited()
        container.start()
        return self._confined(container, spec, template)

    def admit(self, spec: SandboxSpec, template: SandboxTemplate, container_id: str) -> SandboxInfo:
        """Completes a container that Swarm has created and started, whose command still waits.

        Swarm cannot express its network on the node, its limit of swap and its share of the
        processor.
        """
        options = container_options(spec, template)
        self.networks.recreate(template.networks)
        container = self.client.containers.get(container_id)
        connected = container.attrs["NetworkSettings"]["Networks"]
        self.client.networks.get(options["network"]).connect(container)
        for name in connected:
            self.client.networks.get(name).disconnect(container)
        container.update(
            mem_limit=options["mem_limit"],
            memswap_limit=options["memswap_limit"],
            cpu_shares=options["cpu_shares"],
        )
        _fill(container, spec, template)
        return self._confined(container, spec, template)

    def _confined(
        self, container: Container, spec: SandboxSpec, template: SandboxTemplate
    ) -> SandboxInfo:
        needs_rules = needs_confinement(spec.egress, template.networks)
        if needs_rules:
            confine(self.client, container, template.networks, spec.egress, self.relay_port)
        container.reload()
        if needs_rules:
            self.checks.mark(container)
        return parse_container(spec.id, container.attrs)


def _fill(container: Container, spec: SandboxSpec, template: SandboxTemplate) -> None:
    if spec.home is not None:
        ensure_awaited()
        volume_archives.put_home(container, spec.home)
    if files := volume_files(spec, template):
        ensure_awaited()
        container.put_archive(STATE_DIR, tar_of_files(files))
