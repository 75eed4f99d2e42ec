"""What Docker tells of a container, as a sandbox (pure)."""

from __future__ import annotations

from typing import Any

from chowder_local.domain import GATEWAY_PORT, SandboxId, SandboxInfo, SandboxState
from chowder_local.engine import labels

_STATES = {
    "created": SandboxState.CREATED,
    "running": SandboxState.RUNNING,
    "restarting": SandboxState.RUNNING,
    "paused": SandboxState.PAUSED,
    "exited": SandboxState.EXITED,
    "dead": SandboxState.EXITED,
    "removing": SandboxState.EXITED,
}


def info_of(sandbox_id: SandboxId, attributes: dict[str, Any]) -> SandboxInfo:
    state = attributes["State"]
    bindings = attributes["NetworkSettings"]["Ports"].get(f"{GATEWAY_PORT}/tcp") or []
    port = next((binding["HostPort"] for binding in bindings), None)
    return SandboxInfo(
        sandbox_id,
        _STATES[state["Status"]],
        gateway_url=None if port is None else f"http://127.0.0.1:{port}",
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
    return SandboxInfo(
        SandboxId(sandbox_id),
        _STATES[row["State"]],
        gateway_url=None if port is None else f"http://127.0.0.1:{port}",
    )
