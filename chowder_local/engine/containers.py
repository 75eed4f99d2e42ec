"""What Docker tells of a container, as a sandbox (pure)."""

from __future__ import annotations

from typing import Any

from chowder_local.core.domain import GATEWAY_PORT, Egress, SandboxId, SandboxInfo, SandboxState
from chowder_local.engine import labels
from chowder_local.engine.networks import CLOSED_SUFFIX, JOINED_MARK

_STATES = {
    "created": SandboxState.CREATED,
    "running": SandboxState.RUNNING,
    "restarting": SandboxState.RUNNING,
    "paused": SandboxState.PAUSED,
    "exited": SandboxState.EXITED,
    "dead": SandboxState.EXITED,
    "removing": SandboxState.EXITED,
    # Podman's own.
    "initialized": SandboxState.CREATED,
    "stopping": SandboxState.EXITED,
    "stopped": SandboxState.EXITED,
}


def info_of(sandbox_id: SandboxId, attributes: dict[str, Any]) -> SandboxInfo:
    state = attributes["State"]
    bindings = attributes["NetworkSettings"]["Ports"].get(f"{GATEWAY_PORT}/tcp") or []
    port = next((binding["HostPort"] for binding in bindings), None)
    networks = attributes["NetworkSettings"].get("Networks") or {}
    return SandboxInfo(
        sandbox_id,
        _state(state["Status"]),
        gateway_url=_gateway_url(port, networks),
        egress=_egress(networks),
        exit_code=state.get("ExitCode"),
        is_oom_killed=bool(state.get("OOMKilled")),
    )


def info_of_row(row: dict[str, Any]) -> SandboxInfo | None:
    """From one row of the engine's list, which tells less than an inspection."""
    sandbox_id = labels.sandbox_of(row.get("Labels"))
    if sandbox_id is None:
        return None
    ports = (port.get("PublicPort") for port in row.get("Ports") or [])
    port = next(filter(None, ports), None)
    networks = (row.get("NetworkSettings") or {}).get("Networks") or {}
    return SandboxInfo(
        SandboxId(sandbox_id),
        _state(row["State"]),
        gateway_url=_gateway_url(port, networks),
        egress=_egress(networks),
    )


def _state(told: str) -> SandboxState:
    # One in a state that nobody knows is let be, and keeps nobody from seeing the others.
    return _STATES.get(told, SandboxState.RUNNING)


def _egress(networks: dict[str, Any]) -> Egress:
    """Off only if there is nothing but the closed network: one more is a way out."""
    is_closed = bool(networks) and all(name.endswith(CLOSED_SUFFIX) for name in networks)
    return Egress.OFF if is_closed else Egress.ON


def _gateway_url(port: int | str | None, networks: dict[str, Any]) -> str | None:
    if port is not None:
        return f"http://127.0.0.1:{port}"
    # These publish nothing; this host has an address on a closed one, and this server on a joined
    # one, so that no port is needed.
    beside = (
        known for name, known in networks.items()
        if name.endswith(CLOSED_SUFFIX) or JOINED_MARK in name
    )  # fmt: skip
    address = next(filter(None, (known.get("IPAddress") for known in beside)), None)
    return None if address is None else f"http://{address}:{GATEWAY_PORT}"
