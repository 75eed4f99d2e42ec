"""Finds, creates and removes the containers and volumes of one data directory."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxMissing
from chowder_local.engine import labels
from chowder_local.engine.threads import ensure_awaited

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from docker.models.containers import Container
    from docker.models.volumes import Volume

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
        # The caller changes it next.
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
