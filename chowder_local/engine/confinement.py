"""Keeping a sandbox without egress from what else this host has, before its agent does anything."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from docker.errors import APIError

from chowder_local.domain import GATEWAY_PORT, Egress, SandboxState
from chowder_local.engine.rooted import run_rooted
from chowder_local.errors.sandboxes import EgressUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import docker
    from docker.models.containers import Container

    from chowder_local.domain import SandboxInfo
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


def patient(command: Sequence[str]) -> list[str]:
    """What runs a command only after the sandbox was confined (pure)."""
    return ["sh", "-c", _WAIT, "sh", *command]


def confine(
    client: docker.DockerClient,
    container: Container,
    networks: SandboxNetworks,
    relay_port: int | None,
) -> None:
    """Lets the sandbox, which waits for it, call the relay and nothing else. Blocking.

    A network without a way out still leads to this host: to all that listens on all of its
    addresses. Raises EgressUnavailable.
    """
    if networks.closed is None or relay_port is None:
        raise EgressUnavailable("where the model relay is is not known yet.")
    arguments = (networks.closed.relay_address, str(relay_port), str(GATEWAY_PORT), MARK)
    is_done, said = run_rooted(client, container, "confine.py", *arguments)
    if not is_done:
        words = (said.splitlines() or ["it does not say why"])[-1]
        raise EgressUnavailable(f"the sandbox's network cannot be closed: {words}.")


class Confined:
    """Which sandboxes without egress the rules are in force in; all calls block.

    They are gone with every start, so each start is looked at once.
    """

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._starts: dict[str, str] = {}

    def note(self, container: Container) -> None:
        """Takes it that it was confined since it was started."""
        self._starts[str(container.id)] = container.attrs["State"]["StartedAt"]

    def seen(self, info: SandboxInfo, attributes: dict[str, Any]) -> SandboxInfo:
        """The sandbox, and whether it is confined; `attributes` are those of an inspection."""
        if info.egress is not Egress.OFF or info.state is not SandboxState.RUNNING:
            return info
        key, start = attributes["Id"], attributes["State"]["StartedAt"]
        if self._starts.get(key) != start:
            if not self._is_marked(key):
                return replace(info, is_confined=False)
            self._starts[key] = start
        return info

    def listed(self, info: SandboxInfo, row: dict[str, Any]) -> SandboxInfo:
        """The same for a row of the engine's list, which does not tell when it was started."""
        if info.egress is not Egress.OFF or info.state is not SandboxState.RUNNING:
            return info
        try:
            return self.seen(info, self._client.api.inspect_container(row["Id"]))
        except APIError:
            # It is being removed; the next list will not have it.
            return info

    def forget_all_but(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keeps nothing about containers that are gone."""
        there = {row["Id"] for row in rows}
        for key in self._starts.keys() - there:
            self._starts.pop(key, None)

    def _is_marked(self, container_id: str) -> bool:
        try:
            made = self._client.api.exec_create(container_id, ["test", "-e", MARK])
            self._client.api.exec_start(made["Id"])
            return bool(self._client.api.exec_inspect(made["Id"])["ExitCode"] == 0)
        except APIError:
            # It has ended meanwhile, which is for the next look to find.
            return True
