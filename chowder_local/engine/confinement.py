"""Keeping a sandbox to what it may reach by rules in its own network, before its agent runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from docker.errors import APIError

from chowder_local.core.domain import GATEWAY_PORT, Egress, SandboxState
from chowder_local.core.errors.sandboxes import EgressUnavailable, EngineUnavailable
from chowder_local.engine.container_exec import run_exec, run_privileged
from chowder_local.engine.networks import JOINED_MARK

if TYPE_CHECKING:
    from collections.abc import Sequence

    import docker
    from docker.models.containers import Container

    from chowder_local.core.domain import SandboxInfo
    from chowder_local.engine.networks import SandboxNetworks

MARK = "/tmp/confined"  # noqa: S108 - inside
# The sandbox's /tmp is new with every start: one that somebody else starts ends, and is made anew.
_WAIT = f"""\
n=0
until [ -e {MARK} ]; do
    n=$((n + 1))
    if [ "$n" -gt 1500 ]; then echo "not confined; this ends" >&2; exit 1; fi
    sleep 0.02
done
exec "$@"
"""


def waiting_command(command: Sequence[str]) -> list[str]:
    """What runs a command only after the sandbox was confined (pure)."""
    return ["sh", "-c", _WAIT, "sh", *command]


def is_needed(egress: Egress, networks: SandboxNetworks) -> bool:
    """Whether a sandbox has to be confined; else its network keeps it as it should be."""
    return egress is Egress.OFF or networks.joined_by is not None


def confine(
    client: docker.DockerClient,
    container: Container,
    networks: SandboxNetworks,
    egress: Egress,
    relay_port: int | None,
) -> None:
    """Lets the sandbox, which waits for it, call the relay and none of its neighbours. Blocking.

    Without egress it calls nothing else: a network without a way out still leads to this host, to
    all that listens on all of its addresses. Raises EgressUnavailable, EngineUnavailable.
    """
    is_closed = egress is Egress.OFF
    network = networks.closed if is_closed else networks.open
    if network is None or relay_port is None:
        raise EgressUnavailable("where the model relay is is not known yet.")
    arguments = [network.relay_address, str(relay_port), str(GATEWAY_PORT), MARK]
    if not is_closed and network.addresses is not None:
        arguments.append(network.addresses[0])
    is_done, output = run_privileged(client, container, "confine.py", *arguments)
    if is_done:
        return
    reason = (output.splitlines() or ["it does not say why"])[-1]
    if is_closed:
        raise EgressUnavailable(f"the sandbox's network cannot be closed: {reason}.")
    raise EngineUnavailable(
        f"A sandbox cannot be kept from its neighbours on this engine: {reason}. Run the server "
        "on the engine's machine itself, or its container with the network of the host."
    )


class Confined:
    """Which sandboxes that need it the rules are in force in; all calls block.

    They are gone with every start, so each start is looked at once.
    """

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._starts: dict[str, str] = {}

    def mark(self, container: Container) -> None:
        """Takes it that it was confined since it was started."""
        self._starts[str(container.id)] = container.attrs["State"]["StartedAt"]

    def checked(self, info: SandboxInfo, attributes: dict[str, Any]) -> SandboxInfo:
        """The sandbox, and whether it is confined; `attributes` are those of an inspection."""
        if not _must_be(info, attributes):
            return info
        key, start = attributes["Id"], attributes["State"]["StartedAt"]
        if self._starts.get(key) != start:
            if not self._is_marked(key):
                return replace(info, is_confined=False)
            self._starts[key] = start
        return info

    def checked_row(self, info: SandboxInfo, row: dict[str, Any]) -> SandboxInfo:
        """The same for a row of the engine's list, which does not tell when it was started."""
        if not _must_be(info, row):
            return info
        try:
            return self.checked(info, self._client.api.inspect_container(row["Id"]))
        except APIError:
            # It is being removed; the next list will not have it.
            return info

    def forget_all_but(self, rows: Sequence[dict[str, Any]]) -> None:
        there = {row["Id"] for row in rows}
        for key in self._starts.keys() - there:
            self._starts.pop(key, None)

    def _is_marked(self, container_id: str) -> bool:
        try:
            is_marked, _ = run_exec(self._client, container_id, ["test", "-e", MARK])
        except APIError:
            # It has ended meanwhile, which is for the next look to find.
            return True
        return is_marked


def _must_be(info: SandboxInfo, attributes: dict[str, Any]) -> bool:
    """Whether what the engine tells of a sandbox is of one that only the rules keep in."""
    networks = (attributes.get("NetworkSettings") or {}).get("Networks") or {}
    is_joined = any(JOINED_MARK in name for name in networks)
    return info.state is SandboxState.RUNNING and (info.egress is Egress.OFF or is_joined)
