"""Finds, makes and removes containers and volumes of one data directory, and no one else's."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound

from chowder_local.engine import labels
from chowder_local.engine.threads import ensure_awaited
from chowder_local.errors.sandboxes import EngineUnavailable, SandboxMissing

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

    from chowder_local.domain import SandboxId


class Own:
    """What bears this data directory's labels; all calls block."""

    def __init__(self, client: docker.DockerClient, store_id: str) -> None:
        self._client = client
        self._store_id = store_id

    def find(self, sandbox_id: SandboxId) -> Container | None:
        """The sandbox's container, None if it is gone. Raises EngineUnavailable."""
        try:
            container = self._client.containers.get(sandbox_id)
        except NotFound:
            return None
        if not labels.is_of_store(container.labels, self._store_id):
            raise EngineUnavailable(
                f"A container named {sandbox_id} exists that is not ours; it is left alone."
            )
        # What comes next is done to it.
        ensure_awaited()
        return container

    def found(self, sandbox_id: SandboxId) -> Container:
        """The sandbox's container. Raises SandboxMissing."""
        container = self.find(sandbox_id)
        if container is None:
            raise SandboxMissing(f"Sandbox {sandbox_id} is gone from the engine.")
        return container

    def discard(self, sandbox_id: SandboxId) -> None:
        """Removes the sandbox's container, if there is one."""
        container = self.find(sandbox_id)
        if container is None:
            return
        try:
            container.remove(force=True)
        except APIError as refused:
            # Somebody else is removing it, or already has: what we wanted happens.
            if refused.status_code not in {404, 409}:
                raise

    def ensure_volume(self, sandbox_id: SandboxId) -> None:
        """Makes the sandbox's volume, unless there is one."""
        ensure_awaited()
        # Creating a volume that exists is a no-op that keeps its content.
        self._client.volumes.create(
            sandbox_id, labels=labels.sandbox_labels(self._store_id, sandbox_id)
        )

    def discard_volume(self, sandbox_id: SandboxId) -> None:
        """Removes the sandbox's volume, if there is one and it is ours."""
        # By its name: a list is looked through volume by volume, of everybody's.
        with suppress(NotFound):
            volume = self._client.volumes.get(sandbox_id)
            ensure_awaited()
            if labels.is_of_store(volume.attrs.get("Labels"), self._store_id):
                volume.remove(force=True)
