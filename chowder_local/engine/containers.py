"""Containers as sandboxes: parsing what Docker reports of them, and pausing them."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

from docker.errors import APIError

from chowder_local.core.domain import GATEWAY_PORT, Egress, SandboxId, SandboxInfo, SandboxState
from chowder_local.engine import labels
from chowder_local.engine.networks import CLOSED_SUFFIX, JOINED_MARK

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

PAUSE_ATTEMPTS = 5
"""Freezing a busy sandbox sometimes fails at first, because the kernel misses a process."""

_STATES = {
    "created": SandboxState.CREATED,
    "running": SandboxState.RUNNING,
    "restarting": SandboxState.RUNNING,
    "paused": SandboxState.PAUSED,
    "exited": SandboxState.EXITED,
    "dead": SandboxState.EXITED,
    "removing": SandboxState.EXITED,
    # Podman only.
    "initialized": SandboxState.CREATED,
    "stopping": SandboxState.EXITED,
    "stopped": SandboxState.EXITED,
}


def list_commands(container: Container) -> list[str]:
    """The command lines of a container's processes; its own is the first.

    Blocks; raises the SDK's errors.
    """
    listed = container.top()
    # The engine lists them by number, and numbers begin anew after some ten thousand processes.
    # Where it has the numbers inside the container, the container's own is 1.
    own = {str(container.attrs["State"]["Pid"]), "1"}
    column = listed["Titles"].index("PID")
    rows = sorted(listed["Processes"], key=lambda row: row[column] not in own)
    # The command line is the last column, on each engine.
    return [str(row[-1]) for row in rows]


def pause(container: Container) -> None:
    """Freezes a container's processes. Blocks; raises the SDK's errors."""
    for _ in range(PAUSE_ATTEMPTS - 1):
        try:
            container.pause()
        except APIError as refused:
            if not refused.is_server_error():
                raise
        else:
            return
    container.pause()


def parse_container(sandbox_id: SandboxId, attributes: dict[str, Any]) -> SandboxInfo:
    state = attributes["State"]
    bindings = attributes["NetworkSettings"]["Ports"].get(f"{GATEWAY_PORT}/tcp") or []
    port = next((binding["HostPort"] for binding in bindings), None)
    networks = attributes["NetworkSettings"].get("Networks") or {}
    memory_bytes = (attributes.get("HostConfig") or {}).get("Memory") or 0
    return SandboxInfo(
        sandbox_id,
        _state(state["Status"]),
        gateway_url=_gateway_url(port, networks),
        egress=_egress(networks),
        exit_code=state.get("ExitCode"),
        is_oom_killed=bool(state.get("OOMKilled")),
        memory_limit_mb=memory_bytes // (1024 * 1024) or None,
    )


def parse_row(row: dict[str, Any]) -> SandboxInfo | None:
    """Parses a row of the engine's list, which has less than an inspection; None if no sandbox."""
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


def was_signalled(client: docker.DockerClient, container: Container) -> bool:
    """Whether an exited container was sent a signal through the engine since its start. Blocks.

    An engine keeps its latest 256 events, and some keep none: the result is then False.
    """
    state = container.attrs["State"]
    began, ended = (_seconds(state.get(name)) for name in ("StartedAt", "FinishedAt"))
    if began is None or ended is None:
        return False
    try:
        # `until` must be in the past, or the engine waits for it.
        events = client.events(
            since=began, until=ended + 1, filters={"container": container.id, "event": ["kill"]}
        )
        with closing(events):
            return next(iter(events), None) is not None
    except APIError:
        return False


def _state(status: str) -> SandboxState:
    # An unknown state must not fail a list of all sandboxes.
    return _STATES.get(status, SandboxState.RUNNING)


def _egress(networks: dict[str, Any]) -> Egress:
    """Off only if all networks are closed ones: any other is a way out."""
    is_closed = bool(networks) and all(name.endswith(CLOSED_SUFFIX) for name in networks)
    return Egress.OFF if is_closed else Egress.ON


def _gateway_url(port: int | str | None, networks: dict[str, Any]) -> str | None:
    if port is not None:
        return f"http://127.0.0.1:{port}"
    # Without a published port, the gateway is reached by its address: this host is on each closed
    # network, and a server in a container is on each joined one.
    for name, network in networks.items():
        is_reachable = name.endswith(CLOSED_SUFFIX) or JOINED_MARK in name
        if is_reachable and (address := network.get("IPAddress")):
            return f"http://{address}:{GATEWAY_PORT}"
    return None


def _seconds(time: str | None) -> int | None:
    # Engines write nanoseconds, and the year 1 for what has not happened.
    try:
        return int(datetime.fromisoformat(f"{str(time)[:19]}+00:00").timestamp())
    except ValueError:
        return None
