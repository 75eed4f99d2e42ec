"""Keeping a sandbox without egress from what else this host has, before its agent does anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.domain import GATEWAY_PORT
from chowder_local.engine.rooted import run_rooted
from chowder_local.errors.sandboxes import EgressUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import docker
    from docker.models.containers import Container

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
