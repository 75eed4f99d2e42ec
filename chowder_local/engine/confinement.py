"""Firewall rules in a sandbox's own network, installed before its agent runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from docker.errors import APIError

from chowder_local.core.domain import GATEWAY_PORT, Egress, SandboxState
from chowder_local.core.errors.sandboxes import EgressUnavailable, EngineUnavailable
from chowder_local.engine.container_exec import last_line, run_exec, run_privileged
from chowder_local.engine.networks import JOINED_MARK

if TYPE_CHECKING:
    from collections.abc import Sequence

    import docker
    from docker.models.containers import Container

    from chowder_local.core.domain import SandboxInfo
    from chowder_local.engine.networks import SandboxNetworks

MARK = "/tmp/confined"  # noqa: S108 - inside
# Five minutes, since a node of a swarm unpacks a large home meanwhile; nothing else runs inside.
# /tmp is empty at each start: a sandbox that another program starts ends, and is booted again.
_WAIT = f"""\
n=0
until [ -e {MARK} ]; do
    n=$((n + 1))
    if [ "$n" -gt 15000 ]; then echo "no firewall rules; the sandbox ends" >&2; exit 1; fi
    sleep 0.02
done
exec "$@"
"""


def waiting_command(command: Sequence[str]) -> list[str]:
    """A command that waits for the firewall rules and then runs `command` (pure)."""
    return ["sh", "-c", _WAIT, "sh", *command]


def is_needed(egress: Egress, networks: SandboxNetworks) -> bool:
    """Whether a sandbox needs firewall rules; else its network is enough."""
    return egress is Egress.OFF or networks.joined_by is not None


def confine(
    client: docker.DockerClient,
    container: Container,
    networks: SandboxNetworks,
    egress: Egress,
    relay_port: int | None,
) -> None:
    """Installs the rules in a waiting sandbox: it may call the relay, but no other sandbox. Blocks.

    Without egress it may call nothing else, because an internal network still leads to all
    listeners on this host. If the rules are refused, raises EgressUnavailable for a sandbox
    without egress, else EngineUnavailable.
    """
    is_closed = egress is Egress.OFF
    network = networks.closed if is_closed else networks.open
    if network is None or network.relay_address is None or relay_port is None:
        raise EgressUnavailable("the model relay does not listen yet; try again in a moment.")
    arguments = [network.relay_address, str(relay_port), str(GATEWAY_PORT), MARK]
    if not is_closed and network.addresses is not None:
        arguments.append(network.addresses[0])
    succeeded, output = run_privileged(client, container, "confine.py", *arguments)
    if succeeded:
        return
    reason = last_line(output)
    if is_closed:
        raise EgressUnavailable(f"firewall rules for the sandbox are refused: {reason}.")
    raise EngineUnavailable(
        f"This engine cannot isolate sandboxes from each other: {reason}. Run the server on the "
        "engine's machine itself, or its container with the host's network (--network host)."
    )


@dataclass(eq=False, repr=False)
class ConfinementChecks:
    """Checks whether firewall rules are in force in the sandboxes that need them. All calls block.

    A restart removes the rules, so each start of a sandbox is checked once.
    """

    client: docker.DockerClient

    def __post_init__(self) -> None:
        self._confined_starts: dict[str, str] = {}

    def mark(self, container: Container) -> None:
        """Records that the rules were installed since the container was started."""
        self._confined_starts[str(container.id)] = container.attrs["State"]["StartedAt"]

    def check(self, info: SandboxInfo, attributes: dict[str, Any]) -> SandboxInfo:
        """`info` with `is_confined` set; `attributes` are those of an inspection."""
        if not _needs_rules(info, attributes):
            return info
        key, start = attributes["Id"], attributes["State"]["StartedAt"]
        if self._confined_starts.get(key) != start:
            if not self._is_marked(key):
                return replace(info, is_confined=False)
            self._confined_starts[key] = start
        return info

    def check_row(self, info: SandboxInfo, row: dict[str, Any]) -> SandboxInfo:
        """The same for a row of the engine's list, which lacks the time of the start."""
        if not _needs_rules(info, row):
            return info
        try:
            return self.check(info, self.client.api.inspect_container(row["Id"]))
        except APIError:
            # The container is being removed; the next list will not have it.
            return info

    def forget_all_but(self, rows: Sequence[dict[str, Any]]) -> None:
        listed = {row["Id"] for row in rows}
        for key in self._confined_starts.keys() - listed:
            self._confined_starts.pop(key, None)

    def _is_marked(self, container_id: str) -> bool:
        try:
            is_marked, _ = run_exec(self.client, container_id, ["test", "-e", MARK])
        except APIError:
            # The sandbox has ended meanwhile; the next check sees that.
            return True
        return is_marked


def _needs_rules(info: SandboxInfo, attributes: dict[str, Any]) -> bool:
    networks = (attributes.get("NetworkSettings") or {}).get("Networks") or {}
    is_joined = any(JOINED_MARK in name for name in networks)
    return info.state is SandboxState.RUNNING and (info.egress is Egress.OFF or is_joined)
