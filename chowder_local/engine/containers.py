"""The containers and volumes of one data directory: found, created, paused and removed."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound

from chowder_local.core.domain import GATEWAY_PORT, Egress, SandboxId, SandboxInfo, SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxMissing
from chowder_local.engine import labels
from chowder_local.engine.networks import CLOSED_SUFFIX, JOINED_MARK
from chowder_local.engine.threads import ensure_awaited

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from docker.models.containers import Container
    from docker.models.volumes import Volume

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
    # Only Podman has this status.
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


IN_USE_TIMEOUT_S = 5.0
IN_USE_INTERVAL_S = 0.1


class OwnedResources:
    """The resources that bear this data directory's labels. All calls block."""

    def __init__(self, client: docker.DockerClient, store_id: str) -> None:
        self._client = client
        self.store_id = store_id

    def find(self, sandbox_id: SandboxId) -> Container | None:
        """The sandbox's container; None if gone. Raises EngineUnavailable if it is not ours."""
        try:
            container = self._client.containers.get(sandbox_id)
        except NotFound:
            return None
        if not labels.is_of_store(container.labels, self.store_id):
            raise EngineUnavailable(
                f"The container {sandbox_id} was created by another program and is left alone. "
                "Remove or rename it."
            )
        # The caller changes the container next, which a cancelled call must not do.
        ensure_awaited()
        return container

    def get(self, sandbox_id: SandboxId) -> Container:
        """The sandbox's container. Raises SandboxMissing if it is gone."""
        container = self.find(sandbox_id)
        if container is None:
            raise SandboxMissing(f"Sandbox {sandbox_id} is gone from the engine.")
        return container

    @contextmanager
    def volume_container(self, sandbox_id: SandboxId, image: str, home: str) -> Iterator[Container]:
        """The sandbox's container, or else a temporary one, never started, with its volume.

        Raises SandboxMissing if there is no volume.
        """
        if (container := self.find(sandbox_id)) is not None:
            yield container
            return
        self.check_volume(sandbox_id)
        volumes = {str(sandbox_id): {"bind": home, "mode": "ro"}}
        with self.temporary_container(image, ["true"], volumes=volumes) as container:
            yield container

    @contextmanager
    def temporary_container(
        self, image: str, command: list[str], **options: Any
    ) -> Iterator[Container]:
        """A container without a network that belongs to no sandbox, removed with the block."""
        container = self._client.containers.create(
            image,
            command,
            network_mode="none",
            labels=labels.store_labels(self.store_id),
            **options,
        )
        try:
            yield container
        finally:
            container.remove(force=True, v=True)

    def discard(self, sandbox_id: SandboxId) -> None:
        container = self.find(sandbox_id)
        if container is None:
            return
        try:
            container.remove(force=True, v=True)
        except APIError as refused:
            # It is already gone, or being removed.
            if refused.status_code not in {404, 409}:
                raise

    def discard_temporary_containers(self) -> None:
        """Removes the containers that belong to no sandbox, left by an earlier run."""
        for row in self.container_rows():
            if labels.sandbox_of(row.get("Labels")) is None:
                ensure_awaited()
                with suppress(NotFound):
                    self._client.api.remove_container(row["Id"], force=True)

    def container_rows(self) -> list[dict[str, Any]]:
        """The engine's list, in one call; the SDK would inspect each container on its own."""
        filters = labels.store_filter(self.store_id)
        rows: list[dict[str, Any]] = self._client.api.containers(all=True, filters=filters)
        return rows

    def volume_ids(self) -> set[SandboxId]:
        volumes = self._client.volumes.list(filters=labels.store_filter(self.store_id))
        return {SandboxId(str(volume.name)) for volume in volumes}

    def ensure_volume(self, sandbox_id: SandboxId) -> None:
        ensure_awaited()
        # Creating an existing volume changes nothing.
        self._client.volumes.create(
            sandbox_id, labels=labels.sandbox_labels(self.store_id, sandbox_id)
        )

    def check_volume(self, sandbox_id: SandboxId) -> None:
        """Raises SandboxMissing if the sandbox has no volume with our labels."""
        if self._volume(sandbox_id) is None:
            raise SandboxMissing(f"The volume of sandbox {sandbox_id} is gone from the engine.")

    def discard_volume(self, sandbox_id: SandboxId) -> None:
        """Removes the sandbox's volume, if it exists and has our labels."""
        if (volume := self._volume(sandbox_id)) is not None:
            ensure_awaited()
            with suppress(NotFound):
                _remove_once_unused(volume)

    def _volume(self, sandbox_id: SandboxId) -> Volume | None:
        # By name, because the engine filters a list by going through all volumes.
        with suppress(NotFound):
            volume = self._client.volumes.get(sandbox_id)
            if labels.is_of_store(volume.attrs.get("Labels"), self.store_id):
                return volume
        return None


def _remove_once_unused(volume: Volume) -> None:
    """Retries while a container that is being removed or copied from still uses the volume."""
    deadline_s = time.monotonic() + IN_USE_TIMEOUT_S
    while True:
        try:
            volume.remove(force=True)
        except APIError as refused:
            if refused.status_code != HTTPStatus.CONFLICT or time.monotonic() >= deadline_s:
                raise
        else:
            return
        time.sleep(IN_USE_INTERVAL_S)
        ensure_awaited()
